//! The service: wires the event loop together, runs it until a signal, and drains it.

mod activation;
mod bus;
mod declared;
mod listeners;
pub mod platform;

use crate::bus::Bus;
use crate::capture::{self, CameraTls, Spawner};
use crate::clock::within;
use crate::config::{Config, Reread};
use crate::error::{Error, Kind, Result, system};
use crate::folder;
use crate::infer::registry::{self, Models};
use crate::infer::{EngineChoice, Precision};
use crate::infer::{Pool, Thresholds, process, tensorrt};
use crate::notify::Notifier;
use crate::outbound::{Proxies, Trust};
use crate::pipeline::{self, Commands, Table};
use crate::proto::{http, tcp};
use crate::sandbox::{kernel, own};
use crate::sink::Outlets;
use async_signal::{Signal, Signals};
use smol::LocalExecutor;
use smol::stream::StreamExt;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// From a signal to the end, at most: workers are killed after their grace, so this is a last resort.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a worker may take to say goodbye to its camera before it is killed.
const WORKER_STOP_GRACE: Duration = Duration::from_millis(500);

/// How long loads that nobody waits for any more may take to notice it, and to stop a `trtexec` with all it
/// has started. Others are in the middle of a computation that cannot be stopped, and leave nothing behind.
const LOADS_STOP_GRACE: Duration = Duration::from_secs(1);

/// Set, it leaves this process open to debuggers and profilers of its own user; for who develops it.
const TRACEABLE_VARIABLE: &str = "WEIR_TRACEABLE";

/// Where the service listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// The Stream Manager's TCP protocol.
    pub tcp: SocketAddr,
    /// Where the HTTP API listens.
    pub http: SocketAddr,
}

/// Serves until SIGTERM or SIGINT, then ends every pipeline. `beside` runs next to it once both listeners are
/// open. SIGHUP takes from `reread` what can change while the service runs.
pub fn run(
    config: &Config,
    reread: Option<Reread>,
    beside: impl AsyncFnOnce(Commands, Addresses),
) -> Result<()> {
    run_until(config, reread, async |commands, addresses| {
        beside(commands, addresses).await;
        std::future::pending::<()>().await;
    })
}

/// As [`run`], but ends when `main` does.
pub fn run_until(
    config: &Config,
    reread: Option<Reread>,
    main: impl AsyncFnOnce(Commands, Addresses),
) -> Result<()> {
    look_around(config)?;
    // Ports first: a second service must not start threads and workers before it finds them taken.
    let (passed_tcp, passed_http) = activation::take()?;
    let tcp_listener =
        listeners::Sockets::open(passed_tcp, &config.tcp.host, config.tcp.port, &config.tcp.unix)?;
    let http_listener =
        listeners::Sockets::open(passed_http, &config.http.host, config.http.port, &config.http.unix)?;
    let addresses = Addresses { tcp: tcp_listener.address(), http: http_listener.address() };
    let access_control =
        listeners::access_control(config, &[tcp_listener.addresses(), http_listener.addresses()].concat())?;

    let executor = Rc::new(LocalExecutor::new());
    let listeners = [tcp_listener.addresses(), http_listener.addresses()].concat();
    let broker = bus::settings(config)?;
    let outlets = Rc::new(bus::outlets(config)?);
    let shared = Rc::new(shared(config, listeners, outlets.clone())?);
    let declared = || declared::read(&config.service.pipelines_dir, config.service.max_pipelines);
    let table = Table::open(shared.clone(), executor.clone(), declared());
    let commands = Commands(table.clone());
    smol::block_on(executor.run(async {
        // Before the listeners open, so that no signal finds its default action.
        let mut signals =
            Signals::new([Signal::Term, Signal::Int, Signal::Hup]).map_err(system("watch signals"))?;
        let listeners = Rc::new(commands.clone());
        let (stop, stopped) = async_channel::bounded(1);
        let rules = listeners::rules(config, access_control.clone(), stopped)?;
        let tcp_settings = Rc::new(listeners::tcp_settings(config, rules.clone()));
        let http_settings = Rc::new(listeners::http_settings(config, &http_listener.addresses(), rules));
        let mut tasks = Vec::new();
        for listener in tcp_listener.watch()? {
            tasks.push(executor.spawn(tcp::serve(
                listener,
                executor.clone(),
                listeners.clone(),
                tcp_settings.clone(),
            )));
        }
        for listener in http_listener.watch()? {
            tasks.push(executor.spawn(http::serve(
                listener,
                executor.clone(),
                listeners.clone(),
                http_settings.clone(),
            )));
        }
        let bus = Bus::start(&executor, broker, outlets.clone(), commands.clone());
        let mut in_use = bus::InUse::new(config);
        announce(config, addresses)?;
        let systemd = Notifier::from_environment(|name| std::env::var(name).ok());
        let listening = format!("listening on {} (TCP) and {} (HTTP)", addresses.tcp, addresses.http);
        systemd.ready(&listening);
        let served = smol::future::or(main(commands, addresses), async {
            while let Some(signal) = signals.next().await {
                match signal {
                    Ok(Signal::Hup) => {
                        systemd.reloading();
                        listeners::reload(config, &access_control);
                        if let Some(reread) = &reread {
                            in_use.reread(reread, &bus, &outlets).await;
                        }
                        table.redeclare(declared()).await;
                        systemd.ready(&listening);
                    }
                    signal => return log::info!("stopping signal={signal:?}"),
                }
            }
        });
        smol::future::or(served, heartbeat(&systemd, &shared.pool)).await;
        systemd.stopping();
        // New connections are not taken, commands under way are answered: ending the pipelines ends those
        // that still load.
        drop(stop);
        drain(&table, tasks).await;
        bus.stop().await;
        // Loads that are not over by then are given up.
        let _ = within(LOADS_STOP_GRACE, shared.models.idle()).await;
        Ok(())
    }))
}

/// What the machine lacks, and whether its folders are ours: before anything is opened, read or started.
fn look_around(config: &Config) -> Result<()> {
    if std::env::var_os(TRACEABLE_VARIABLE).is_none_or(|value| value.is_empty()) {
        own::keep_to_itself();
    }
    let needs = kernel::needs();
    if let Some(why) = kernel::fatal(&needs) {
        return Err(Error::new(Kind::System, why));
    }
    for need in &needs {
        if let (Err(found), Some(without)) = (&need.found, need.without) {
            log::warn!(
                "event=kernel_lacks what=\"{}\" found=\"{found}\" without_it=\"{without}\"",
                need.what
            );
        }
    }
    for (key, path) in config.own_folders() {
        // One that cannot be made yet (a disk that is not mounted) is an error of who wants to write there.
        if let Err(refusal @ folder::Refusal::Trust(_)) = folder::check(path) {
            return Err(Error::new(Kind::Configuration, format!("{key}: {refusal}")));
        }
    }
    Ok(())
}

async fn drain(table: &Table, listeners: Vec<smol::Task<()>>) {
    let everything = async {
        table.close().await;
        for listener in listeners {
            listener.await;
        }
    };
    if within(DRAIN_TIMEOUT, everything).await.is_none() {
        log::error!("drain=incomplete after_s={}", DRAIN_TIMEOUT.as_secs());
    }
}

/// Tells systemd's watchdog that the event loop turns, as long as the inference threads make progress too and
/// the GPU that some run on has not given up on this process: a new one gets it back. Twice in the time it
/// allows, as its manual advises.
async fn heartbeat(systemd: &Notifier, pool: &Pool) {
    let Some(limit) = systemd.watchdog() else { return std::future::pending().await };
    loop {
        if pool.is_stuck(limit) {
            log::error!("event=inference_stuck longer_than_s={}", limit.as_secs());
        } else if tensorrt::is_gpu_lost() {
            log::error!("event=gpu_lost");
        } else {
            systemd.alive();
        }
        smol::Timer::after(limit / 2).await;
    }
}

/// Says where the service listens: a line each for people and scripts, and the ports file for those who start
/// it on port 0.
fn announce(config: &Config, addresses: Addresses) -> Result<()> {
    // Not through the log: it is the answer to having been started, whatever the log level.
    let _ = writeln!(std::io::stderr(), "tcp={}\nhttp={}", addresses.tcp, addresses.http);
    let file = &config.service.ports_file;
    if file.as_os_str().is_empty() {
        return Ok(());
    }
    let text = format!("{{\"tcp\": \"{}\", \"http\": \"{}\"}}\n", addresses.tcp, addresses.http);
    write_atomically(file, text.as_bytes())
}

/// Readers see the old file or the whole new one.
fn write_atomically(file: &Path, bytes: &[u8]) -> Result<()> {
    let mut temporary = file.as_os_str().to_owned();
    temporary.push(".new");
    // Ours and new: whoever put a link there (in /tmp) does not choose what is written over.
    let _ = std::fs::remove_file(&temporary);
    let written = std::fs::File::create_new(&temporary)
        .and_then(|mut output| output.write_all(bytes))
        .and_then(|()| std::fs::rename(&temporary, file));
    written.map_err(|cause| {
        Error::told(Kind::Configuration, format_args!("cannot write {}", file.display()), cause)
    })
}

fn shared(config: &Config, listeners: Vec<SocketAddr>, outlets: Rc<Outlets>) -> Result<pipeline::Shared> {
    let threads = match config.service.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let spawner = Spawner::start()?;
    process::use_spawner(&spawner);
    Ok(pipeline::Shared {
        settings: pipeline_settings(config),
        capture: Rc::new(capture_settings(config, listeners)?),
        outlets,
        spawner,
        models: Models::new(registry::RegistrySettings {
            exchange_engines: true,
            ..registry_settings(config)
        }),
        pool: Pool::start(threads)?,
        threads,
        about: about(config),
    })
}

/// What `weir check` says of this machine.
fn about(config: &Config) -> pipeline::About {
    let config = config.clone();
    Arc::new(move || platform::report(&config))
}

fn pipeline_settings(config: &Config) -> pipeline::PipelineSettings {
    pipeline::PipelineSettings {
        thresholds: Thresholds {
            confidence: config.detection.confidence,
            iou: config.detection.iou_threshold,
            max_detections: config.detection.max_detections,
            class_agnostic: config.detection.class_agnostic_nms,
        },
        buffer_size: config.capture.buffer_size,
        retry_delay: Duration::from_secs_f64(config.capture.retry_delay_s),
        stride_files: config.capture.stride_files,
        max_pipelines: config.service.max_pipelines,
        state_dir: Some(config.service.state_dir.clone())
            .filter(|directory| !directory.as_os_str().is_empty()),
        picture_viewers: config.http.picture_viewers,
        memory_limit_bytes: memory_limit_bytes(config),
    }
}

/// What all pipelines together, and any one model, may take.
fn memory_limit_bytes(config: &Config) -> u64 {
    match config.service.memory_limit_bytes {
        0 => machine_memory_bytes(),
        bytes => bytes,
    }
}

fn machine_memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    // Both are u64 or u32 by architecture.
    #[allow(clippy::useless_conversion)]
    u64::from(info.totalram).saturating_mul(u64::from(info.mem_unit.max(1)))
}

fn capture_settings(config: &Config, listeners: Vec<SocketAddr>) -> Result<capture::CaptureSettings> {
    let hosts = config.sources.hosts.iter().map(|text| text.parse()).collect::<Result<_>>()?;
    Ok(capture::CaptureSettings {
        worker_memory_bytes: config.capture.worker_memory_bytes,
        // The one key was there before the other.
        worker_memory_max_bytes: config
            .capture
            .worker_memory_max_bytes
            .max(config.capture.worker_memory_bytes),
        open_timeout: Duration::from_secs_f64(config.capture.open_timeout_s),
        stall_timeout: Duration::from_secs_f64(config.capture.stall_timeout_s),
        key_frame_timeout: Duration::from_secs_f64(config.capture.key_frame_timeout_s),
        stop_grace: WORKER_STOP_GRACE,
        rtsp_udp: config.capture.rtsp_udp,
        user_agent: concat!("weir/", env!("CARGO_PKG_VERSION")).to_owned(),
        network: Arc::new(capture::Network { hosts, listeners }),
        picture_width: if config.http.pictures { config.http.picture_width } else { 0 },
        tls: CameraTls::load(&config.capture.camera_certificates, &config.capture.insecure_cameras)?,
        decoders: decoder_settings(config),
        decoder_nodes: Arc::default(),
    })
}

/// What the worker of a recording is told: what the service tells one, but for pictures.
pub(crate) fn recording_settings(config: &Config) -> Result<capture::CaptureSettings> {
    Ok(capture::CaptureSettings { picture_width: 0, ..capture_settings(config, Vec::new())? })
}

pub(crate) fn decoder_settings(config: &Config) -> capture::DecoderSettings {
    capture::DecoderSettings {
        // `Config::check` has seen both.
        choice: capture::DecoderChoice::from_name(&config.capture.decoder).unwrap_or_default(),
        names: config.capture.decoder_names.clone(),
        unchecked: !config.capture.decoder_check,
        nodes: None,
    }
}

/// What the model registry is told; `weir check` needs the same.
pub fn registry_settings(config: &Config) -> registry::RegistrySettings {
    let models = &config.models;
    let named = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let host_name = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    let environment = |name: &str| std::env::var(name).ok();
    registry::RegistrySettings {
        proxies: Proxies::from_environment(environment),
        trust: Trust::from_environment(&models.ca_file, environment),
        cache_dir: models.cache_dir.clone(),
        models_dirs: models.dirs.clone(),
        api_base_url: models.api_base_url.clone(),
        license_server: named(&models.license_server),
        extra_headers: models.extra_headers.clone(),
        default_api_key: models.api_key.clone(),
        device_id: named(&models.device_id).unwrap_or_else(host_name),
        request_timeout: Duration::from_secs_f64(models.request_timeout_s),
        retries: models.retries,
        retry_interval: Duration::from_secs_f64(models.retry_interval_s),
        max_model_bytes: models.max_bytes,
        memory_budget_bytes: memory_limit_bytes(config),
        load_timeout: Duration::from_secs_f64(models.load_timeout_s),
        // `Config::check` has seen the name.
        engine: EngineChoice::from_name(&models.engine).unwrap_or_default(),
        precision: Precision::from_name(&models.precision).unwrap_or_default(),
        tensorrt: config.tensorrt.settings(),
        exchange_engines: false,
        validate: models.validate,
        offline: models.offline,
        disable_contrast: models.disable_contrast,
        disable_grayscale: models.disable_grayscale,
        disable_static_crop: models.disable_static_crop,
    }
}
