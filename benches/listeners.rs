//! How fast the listeners answer: `cargo bench --bench listeners [-- --seconds N]`.
//!
//! Starts the real binary on free ports of the loopback and asks it from a few threads, in turn: idle, with
//! four pipelines running, and with four pipelines while models load one after the other. Over TCP each
//! request has a connection of its own, as the protocol wants; over HTTP connections stay open. Prints a line
//! for each.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)] // a bench fails by panicking

#[path = "../tests/process/support/mod.rs"]
mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::{Json, Weir, clip, http, tcp, udp};

/// Time of each measurement unless `--seconds` says otherwise.
const SECONDS: f64 = 4.0;

/// Requests of one thread and measurement, at most: bounds the memory for their times.
const MAX_REQUESTS: usize = 2_000_000;

/// Clients at once: as many as saturate the one thread that answers, on a machine of two cores.
const TCP_CLIENTS: usize = 4;
const HTTP_CLIENTS: usize = 8;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let after =
        arguments.iter().position(|argument| argument == "--seconds").and_then(|at| arguments.get(at + 1));
    let time = Duration::from_secs_f64(
        after.map_or(SECONDS, |seconds| seconds.parse().expect("--seconds takes a number")),
    );
    let assets = support::root().join("assets");
    let weir = Weir::start_with(|command| {
        let models = command
            .get_envs()
            .find(|(name, _)| *name == "WEIR_MODELS_DIR")
            .and_then(|(_, value)| value)
            .unwrap()
            .to_owned();
        command
            .env("WEIR_MODELS_DIR", std::env::join_paths([models.into(), assets.clone()]).unwrap())
            .env("LOG_LEVEL", "WARNING");
    });
    let pid = weir.pid();
    let list = tcp::frame(b"{\"type\": \"list_pipelines\"}");
    let get = b"GET /list_pipelines HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec();
    let both = |state: &str| {
        measure(
            pid,
            &format!("list_pipelines, TCP, {TCP_CLIENTS} clients, {state}"),
            TCP_CLIENTS,
            time,
            || one_each(weir.tcp, &list),
        );
        measure(pid, &format!("list_pipelines, TCP, 1 client, {state}"), 1, time, || {
            one_each(weir.tcp, &list)
        });
        measure(
            pid,
            &format!("list_pipelines, HTTP keep-alive, {HTTP_CLIENTS} clients, {state}"),
            HTTP_CLIENTS,
            time,
            || keep_alive(weir.http, &get),
        );
        measure(pid, &format!("list_pipelines, HTTP keep-alive, 1 client, {state}"), 1, time, || {
            keep_alive(weir.http, &get)
        });
    };
    both("idle");

    // Four cameras of 30 frames a second, the bundled model.
    let sink = udp::Receiver::new();
    let init = |model: &str| {
        Json::parse(&format!(
            r#"{{"type": "init", "model_id": "{model}", "video_reference": "file://{}",
                "sink_configuration": {{"type": "udp_sink", "host": "127.0.0.1", "port": {}}},
                "model_configuration": {{"type": "object-detection"}}}}"#,
            clip("long.mp4"),
            sink.port()
        ))
    };
    let ids: Vec<String> = (0..4).map(|_| weir.init(&init(&weir.toy()))).collect();
    ids.iter().for_each(|id| drop(weir.wait_state(id, "RUNNING")));
    both("4 pipelines");
    let status = tcp::frame(format!(r#"{{"type": "status", "pipeline_id": "{}"}}"#, ids[0]).as_bytes());
    measure(pid, "status, TCP, 1 client, 4 pipelines", 1, time, || one_each(weir.tcp, &status));

    // The bundled NanoDet is read, checked, optimised and packed again and again: with no pipeline left it is
    // forgotten.
    let done = AtomicBool::new(false);
    let nanodet = init(&assets.join("nanodet-coco-416.onnx").display().to_string());
    std::thread::scope(|scope| {
        let loader = scope.spawn(|| {
            let mut loads = 0;
            while !done.load(Ordering::Relaxed) {
                let id = weir.init(&nanodet);
                weir.order("terminate", &id);
                loads += 1;
            }
            loads
        });
        both("4 pipelines and a model that loads");
        done.store(true, Ordering::Relaxed);
        println!("models loaded meanwhile: {}", loader.join().unwrap());
    });
}

/// Each request on a connection of its own.
fn one_each(address: SocketAddr, message: &[u8]) -> impl FnMut() + Send {
    let message = message.to_vec();
    let mut reply = Vec::with_capacity(64 << 10);
    move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&message).unwrap();
        reply.clear();
        stream.read_to_end(&mut reply).unwrap();
        assert!(reply.len() > 4, "no reply");
    }
}

/// All requests on one connection, one after the other.
fn keep_alive(address: SocketAddr, request: &[u8]) -> impl FnMut() + Send {
    let request = request.to_vec();
    let mut stream = http::connect(address);
    let mut chunk = [0; 64 << 10];
    move || {
        stream.write_all(&request).unwrap();
        // These replies are small: one read takes a whole one.
        let count = stream.read(&mut chunk).unwrap();
        assert!(chunk[..count].starts_with(b"HTTP/1.1 200") && chunk[..count].ends_with(b"}"));
    }
}

/// Asks from `clients` threads for `time`; prints requests per second, the times' quantiles, and what a
/// request cost the service itself, which other tenants of the machine disturb least.
fn measure<Ask: FnMut() + Send>(
    pid: u32,
    what: &str,
    clients: usize,
    time: Duration,
    client: impl Fn() -> Ask,
) {
    let asks: Vec<Ask> = (0..clients).map(|_| client()).collect();
    let (start, cpu) = (Instant::now(), cpu_seconds(pid));
    let mut micros: Vec<u32> = std::thread::scope(|scope| {
        let threads: Vec<_> = asks
            .into_iter()
            .map(|mut ask| {
                scope.spawn(move || {
                    let mut micros = Vec::new();
                    while start.elapsed() < time && micros.len() < MAX_REQUESTS {
                        let asked = Instant::now();
                        ask();
                        micros.push(u32::try_from(asked.elapsed().as_micros()).unwrap_or(u32::MAX));
                    }
                    micros
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let seconds = start.elapsed().as_secs_f64();
    micros.sort_unstable();
    let at = |share: f64| f64::from(micros[((micros.len() - 1) as f64 * share) as usize]) / 1000.0;
    println!(
        "{what}: {:.0}/s, p50 {:.2} ms, p99 {:.2} ms, worst {:.2} ms, {:.0} us of weir's processor each",
        micros.len() as f64 / seconds,
        at(0.5),
        at(0.99),
        at(1.0),
        (cpu_seconds(pid) - cpu) * 1e6 / micros.len() as f64
    );
}

/// Time that the service has had on a processor: fields 14 and 15 of proc(5), in ticks.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let ticks: u64 =
        after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}
