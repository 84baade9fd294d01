//! What `weir check` says about the machine: what is there, and what it means for weir.

use crate::capture;
use crate::capture::worker::v4l2::{self, Role};
use crate::clock::{self, Wall};
use crate::config::Config;
use crate::folder::{self, Refusal};
use crate::infer;
use crate::outbound::Proxies;
use crate::sandbox::kernel;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A camera or the model registry that does not answer in this time is not reachable for a person who waits
/// for the report.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Files of /proc and /sys are short; a longer one is cut.
const MAX_FILE_BYTES: usize = 4096;
/// Device files of video decoders in hardware, by the beginning of their names in /dev: Jetson, Allwinner and
/// Rockchip, PC.
const DECODER_DEVICES: [&str; 5] = ["nvhost-nvdec", "v4l2-nvdec", "cedar_dev", "mpp_service", "dri/renderD"];
/// Names under which drivers of V4L2 memory-to-memory decoders show up in /sys/class/video4linux.
const DECODER_NAMES: [&str; 4] = ["dec", "rpivid", "cedrus", "hantro"];
/// Libraries of NVIDIA's decoders: of a PC's driver, and of JetPack.
const DECODER_LIBRARIES: [&str; 2] = ["libnvcuvid.so.1", "libnvv4l2.so"];
/// Where distributions, and JetPack, keep libraries.
const LIBRARY_FOLDERS: [&str; 6] = [
    "/usr/lib",
    "/usr/lib64",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu/tegra",
    "/usr/lib/aarch64-linux-gnu/nvidia",
];
/// Said of every decoder that is found.
const UNUSED: &str = "(not used: weir decodes on the CPU)";
/// Where NVIDIA's kernel driver says which it is, on a Jetson and on a PC: of use where the program cannot
/// ask the GPU itself.
const DRIVER_FILES: [&str; 2] = ["/etc/nv_tegra_release", "/proc/driver/nvidia/version"];
/// What is there while a clock is kept right, and by whom.
const CLOCK_KEEPERS: [(&str, &str); 4] = [
    ("/run/systemd/timesync/synchronized", "synchronised by systemd-timesyncd"),
    ("/run/chrony/chronyd.pid", "kept by chronyd"),
    ("/run/chronyd.pid", "kept by chronyd"),
    ("/run/ntpd.pid", "kept by ntpd"),
];

/// The report, one fact a line, in the form of `weir check MODEL`.
pub fn report(config: &Config) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<8} {value}");
    };
    line("version", env!("CARGO_PKG_VERSION"));
    line("machine", &machine());
    for need in kernel::needs() {
        let found = match &need.found {
            Ok(found) => found.clone(),
            Err(why) => format!("NO ({why}): {}", need.without.unwrap_or("weir cannot work without it")),
        };
        line("kernel", &format!("{}: {found}", need.what));
    }
    line("cores", &cores(config));
    let half = infer::cnn::half().map(|half| format!(", {half} for models.precision = \"half\""));
    line("kernels", &format!("{}{}", infer::cnn::kernels(), half.unwrap_or_default()));
    line("memory", &memory(Path::new("/proc/meminfo"), Path::new("/sys/fs/cgroup/memory.max")));
    line("limits", &limits());
    for (name, fact) in devices(Path::new("/sys/class/video4linux"), Path::new("/dev")) {
        line(name, &fact);
    }
    for file in decoder_files(Path::new("/dev")).into_iter().chain(decoder_libraries(&LIBRARY_FOLDERS)) {
        line("decoder", &format!("{} {UNUSED}", file.display()));
    }
    for found in capture::worker::decoders(&super::decoder_settings(config)) {
        line("decoder", &found);
    }
    for driver in drivers(&DRIVER_FILES) {
        line("driver", &driver);
    }
    for found in infer::tensorrt::describe(&config.tensorrt.settings()) {
        line("gpu", &found);
    }
    line("clock", &clock(Wall::now(), &CLOCK_KEEPERS));
    line("cache", &own_folder(&config.models.cache_dir));
    if !config.service.state_dir.as_os_str().is_empty() {
        line("state", &own_folder(&config.service.state_dir));
    }
    line("registry", &registry(config));
    text
}

fn machine() -> String {
    let name = rustix::system::uname();
    let linked = if cfg!(target_env = "musl") { "static" } else { "glibc" };
    // The board's own name, where its firmware gives one (with a zero byte at the end).
    let board = read("/proc/device-tree/model")
        .map(|model| format!(", {}", model.trim_end_matches('\0')))
        .unwrap_or_default();
    let (machine, release) = (name.machine().to_string_lossy(), name.release().to_string_lossy());
    format!("{machine}, Linux {release}, {linked} binary{board}")
}

fn cores(config: &Config) -> String {
    let usable = std::thread::available_parallelism().map_or(1, usize::from);
    match config.service.threads {
        0 => format!("{usable} for {usable} inference threads"),
        threads => format!("{usable} for {threads} inference threads (service.threads)"),
    }
}

/// Total and available memory, and the limit of the control group where that is lower.
fn memory(meminfo: &Path, group: &Path) -> String {
    let info = read(meminfo).unwrap_or_default();
    let mebibytes = |key: &str| -> Option<u64> {
        let rest = info.lines().find_map(|line| line.strip_prefix(key))?;
        rest.split_whitespace().next()?.parse::<u64>().ok().map(|kibibytes| kibibytes >> 10)
    };
    let total = mebibytes("MemTotal:").unwrap_or(0);
    let available = mebibytes("MemAvailable:").unwrap_or(0);
    let limit = read(group).and_then(|text| text.trim().parse::<u64>().ok()).map(|bytes| bytes >> 20);
    let limit = limit
        .filter(|limit| *limit < total)
        .map(|limit| format!(", limited to {limit} MiB by the control group"));
    format!("{total} MiB, {available} MiB available{}", limit.unwrap_or_default())
}

fn limits() -> String {
    use rustix::process::{Resource, getrlimit};
    let soft = |resource| getrlimit(resource).current;
    let count =
        |resource| soft(resource).map_or_else(|| "any number of".to_owned(), |limit| limit.to_string());
    let locked = soft(Resource::Memlock)
        .map_or_else(|| "any amount".to_owned(), |bytes| format!("{} KiB", bytes >> 10));
    format!(
        "{} open files, {} processes, {locked} of locked memory",
        count(Resource::Nofile),
        count(Resource::Nproc)
    )
}

/// Every V4L2 device the kernel has, whether or not this user may open it: the name of a line, and the line.
fn devices(class: &Path, dev: &Path) -> Vec<(&'static str, String)> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(class).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    let mut facts = Vec::new();
    for entry in entries {
        let Some(file) =
            entry.file_name().and_then(|name| name.to_str()).filter(|name| name.starts_with("video"))
        else {
            continue;
        };
        let device = dev.join(file);
        let path = device.display();
        match v4l2::describe(&device) {
            Ok(v4l2::Description { name, role }) => {
                let name = name.escape_debug();
                match role {
                    Role::Camera(formats) => {
                        facts.push(("camera", format!("{path} {name}")));
                        let (understood, others): (Vec<_>, Vec<_>) =
                            formats.into_iter().partition(v4l2::Format::is_understood);
                        facts.extend(understood.iter().map(|format| ("format", format!("{path} {format}"))));
                        if !others.is_empty() {
                            let others: Vec<String> = others.iter().map(v4l2::Format::fourcc).collect();
                            facts.push(("format", format!("{path} not understood: {}", others.join(", "))));
                        }
                    }
                    Role::Decoder(decoder) => {
                        facts.push(("decoder", format!("{path} {name} {}", described(decoder))));
                    }
                    Role::Other => {
                        facts.push(("device", format!("{path} {name}: neither camera nor decoder")))
                    }
                }
            }
            Err(cause) => {
                // What it is cannot be asked then; the kernel tells everybody its name.
                let name = read(entry.join("name")).unwrap_or_default();
                let is_decoder = DECODER_NAMES.iter().any(|part| name.to_ascii_lowercase().contains(part));
                let kind = if is_decoder { "decoder" } else { "camera" };
                facts.push((
                    kind,
                    format!("{path} {}, cannot be opened: {cause}", name.trim().escape_debug()),
                ));
            }
        }
    }
    facts
}

/// `(driver D): H.264, gives NV12: H.264 passes`.
fn described(decoder: v4l2::Decoder) -> String {
    let v4l2::Decoder { driver, coded, raw, unusable, judged } = decoder;
    let judged = judged.into_iter().map(|(codec, verdict)| match verdict {
        Ok(()) => format!("{codec} passes"),
        Err(why) => format!("{codec} not used: {why}"),
    });
    let verdict =
        unusable.map_or_else(|| judged.collect::<Vec<_>>().join("; "), |why| format!("not used: {why}"));
    let (driver, raw) = (driver.escape_debug(), raw.join(", "));
    format!("(driver {driver}): {}, gives {raw}: {verdict}", coded.join(", "))
}

/// Decoders that are no V4L2 devices.
fn decoder_files(dev: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for pattern in DECODER_DEVICES {
        let (folder, beginning) = pattern.rsplit_once('/').unwrap_or(("", pattern));
        let entries = fs::read_dir(dev.join(folder)).into_iter().flatten().flatten();
        found.extend(
            entries
                .filter(|entry| entry.file_name().to_string_lossy().starts_with(beginning))
                .map(|entry| entry.path()),
        );
    }
    found.sort();
    found
}

/// libavcodec's files that there are in these folders.
fn decoder_libraries(folders: &[&str]) -> Vec<PathBuf> {
    let files =
        folders.iter().flat_map(|folder| DECODER_LIBRARIES.iter().map(|name| Path::new(folder).join(name)));
    files.filter(|file| file.exists()).collect()
}

/// The first line of each of these files that is there.
fn drivers(files: &[&str]) -> Vec<String> {
    let first = |text: String| {
        text.lines().next().map(|line| line.trim_start_matches('#').trim().escape_debug().to_string())
    };
    files.iter().filter_map(|file| first(read(file)?)).collect()
}

fn clock(now: Wall, keepers: &[(&str, &'static str)]) -> String {
    let keeper = keepers.iter().find(|(file, _)| Path::new(file).exists());
    let judged = if clock::fault(now).is_some() {
        "was never set: certificates will not be valid"
    } else {
        keeper.map_or("whether it is synchronised is not known here", |(_, words)| words)
    };
    format!("{} local time, {judged}", now.iso_local())
}

/// Whether a folder can be written, and how much fits in.
fn own_folder(path: &Path) -> String {
    // The folder itself may not be there yet: then what counts is where it will be made.
    let Some(existing) = path.ancestors().find(|folder| folder.exists()) else {
        return format!("{}: no such folder", path.display());
    };
    if let Err(Refusal::Trust(words)) = folder::check(path) {
        return words;
    }
    let writable = rustix::fs::access(existing, rustix::fs::Access::WRITE_OK).is_ok();
    let free = rustix::fs::statvfs(existing).map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize) >> 20);
    let judged = if writable { "writable" } else { "NOT writable" };
    format!("{}, {judged}, {} MiB free", path.display(), free.unwrap_or(0))
}

/// Whether the model registry answers.
fn registry(config: &Config) -> String {
    let url = &config.models.api_base_url;
    if config.models.offline {
        return format!("{url}: not asked (models.offline)");
    }
    let address = || -> Option<(String, u16)> {
        let url = url::Url::parse(url).ok()?;
        Some((url.host_str()?.to_owned(), url.port_or_known_default()?))
    };
    let Some((host, port)) = address() else { return format!("{url}: not an address") };
    let proxies = Proxies::from_environment(|name| std::env::var(name).ok());
    match proxies.route(url.starts_with("https://"), &host, port) {
        Err(why) => format!("{host}:{port} NOT reachable: {why}"),
        Ok(None) => reached(&host, port, &format!("{host}:{port}")),
        Ok(Some(route)) => reached(&route.host, route.port, &format!("{host}:{port} through {route}")),
    }
}

/// Whether somebody listens there.
fn reached(host: &str, port: u16, named: &str) -> String {
    match crate::resolve::connect(host, port, CONNECT_TIMEOUT) {
        Ok(_) => format!("{named} reachable"),
        Err(why) => format!("{named} NOT reachable: {why}; models in the cache and local ones work"),
    }
}

/// The beginning of a small file.
fn read(path: impl AsRef<Path>) -> Option<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(MAX_FILE_BYTES as u64).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_fact_has_a_line() {
        let mut config = Config::default();
        config.models.offline = true;
        let text = report(&config);
        for name in [
            "version", "machine", "kernel", "cores", "kernels", "memory", "limits", "clock", "cache",
            "registry",
        ] {
            assert!(text.lines().any(|line| line.starts_with(name)), "{name} is not in\n{text}");
        }
    }

    #[test]
    fn devices_and_memory_are_read_from_the_kernels_files() {
        let root = std::env::temp_dir().join(format!("weir-platform-{}", uuid::Uuid::new_v4()));
        for (name, label) in
            [("video0", "HD \u{1b}Webcam\n"), ("video10", "bcm2835-codec-decode\n"), ("vbi0", "x")]
        {
            fs::create_dir_all(root.join(name)).unwrap();
            fs::write(root.join(name).join("name"), label).unwrap();
        }
        let found = devices(&root, &root);
        assert_eq!(found.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["camera", "decoder"]);
        // A name comes from the device: nothing of it reaches a terminal as it is.
        let begin = format!("{}/video0 HD \\u{{1b}}Webcam, cannot be opened: ", root.display());
        assert!(found[0].1.starts_with(&begin), "{}", found[0].1);
        fs::write(
            root.join("meminfo"),
            "MemTotal:        2048000 kB\nMemFree: 1 kB\nMemAvailable:    1024000 kB\n",
        )
        .unwrap();
        fs::write(root.join("max"), "536870912\n").unwrap();
        let limited = "2000 MiB, 1000 MiB available, limited to 512 MiB by the control group";
        assert_eq!(memory(&root.join("meminfo"), &root.join("max")), limited);
        assert_eq!(memory(&root.join("meminfo"), &root.join("none")), "2000 MiB, 1000 MiB available");
        let release = root.join("release");
        fs::write(&release, "# R36 (release), REVISION: 4.3, BOARD: generic\nmore\n").unwrap();
        let files = [release.to_str().unwrap(), "/nonexistent"];
        assert_eq!(drivers(&files), ["R36 (release), REVISION: 4.3, BOARD: generic"]);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_clock_that_was_never_set_is_named() {
        let (kept, not_kept) =
            ([("/nonexistent", "by nobody"), ("/dev/null", "by somebody")], [("/nonexistent", "by nobody")]);
        assert!(clock(Wall::from_micros(0), &kept).contains("never set"));
        assert!(clock(Wall::now(), &kept).ends_with("by somebody"));
        assert!(clock(Wall::now(), &not_kept).ends_with("is not known here"));
    }

    #[test]
    fn a_registry_that_is_not_there_is_named() {
        let mut config = Config::default();
        // Port 9 of this machine: nobody listens there.
        config.models.api_base_url = "http://127.0.0.1:9".to_owned();
        assert!(registry(&config).contains("127.0.0.1:9 NOT reachable"), "{}", registry(&config));
    }
}
