//! Stateful decoders behind a real kernel's V4L2: the kernel's own test codec (`vicodec`) in a guest of qemu's.
//!
//! Its codec is FWHT, which no camera sends; the protocol is that of every stateful decoder. What comes out is
//! compared with what `v4l2-ctl` gets out of the same driver. The way through the service is shown with the
//! same driver under the name of H.264 (`tests/vm/vicodec.py`): it gives gray pictures, so that the toy model
//! tells who decodes, and a check with a known picture must refuse it.
//!
//! `make m2m` runs this. In `make test` it is skipped: it needs 150 MB of kernel sources.

use crate::support::guest::{self, Guest};
use crate::support::{Folder, Json, PATIENCE, POLL, process, udp};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use weir::capture::worker::bench;

/// Tells the test that it runs in the guest, and what to do: device, file of FWHT, file for the pictures.
const INSIDE: &str = "WEIR_M2M_INSIDE";
/// Set by `make m2m`.
const WANTED: &str = "WEIR_M2M";

/// From the last picture of a decoder that is taken away to the first of the builtin one, by their decoding
/// times; what the builtin one needs to decode once more what came since the last key frame is not counted: on
/// an emulated processor that is 0.1 s a picture.
const MAX_FALL_BACK_S: f64 = 1.0;

/// Frames from key frame to key frame of the clip.
const GROUP: f64 = 5.0;

const NAME: &str = "m2m::stateful_decoders_of_a_real_kernel";

/// Numbers of v4l2-ctl's patterns.
const BARS: u32 = 0;
/// See [`BARS`].
const SQUARES: u32 = 4;
/// See [`BARS`].
const NOISE: u32 = 21;

/// A frame of FWHT begins with this, and says its length in its header of eleven numbers of 32 bits.
const MAGIC: [u8; 8] = [0x4f, 0x4f, 0x4f, 0x4f, 0xff, 0xff, 0xff, 0xff];
const HEADER_BYTES: usize = 44;

#[test]
fn stateful_decoders_of_a_real_kernel() {
    if let Some(inside) = std::env::var_os(INSIDE) {
        return decode_here(inside.to_str().unwrap());
    }
    if std::env::var_os(WANTED).is_none() {
        return eprintln!("SKIPPED: `make m2m` runs this");
    }
    let folder = Folder::new();
    let Some(()) = guest::kernel() else { return };
    let Some(modules) = guest::codec_modules() else { return };
    let [own, clip] = [own_binary(folder.path()), red_clip(folder.path())];
    for (is_checked, choice) in [(true, "auto"), (false, "v4l2")] {
        let config = folder.path().join("weir.toml");
        let text = format!(
            "[capture]\ndecoder = \"{choice}\"\ndecoder_check = {is_checked}\nstall_timeout_s = 2.0\n\
             retry_delay_s = 0.2\n[sources]\ndirs = [\"/clips\"]\n"
        );
        std::fs::write(&config, text).unwrap();
        let [m2m, fwht, h264] = modules.clone();
        let files = [
            (m2m, "m2m/v4l2-mem2mem.ko"),
            (fwht, "m2m/vicodec.ko"),
            (h264, "m2m/vicodec-h264.ko"),
            (own.clone(), "m2m/test"),
            (clip.clone(), "clips/red.mp4"),
            (config, "weir.toml"),
        ];
        let Some(guest) = Guest::boot_with(&files) else { return };
        let planes = u8::from(!is_checked);
        // What tests/vm/init puts there is in the way of a node of that number.
        let said = guest.run(&format!(
            "rm /dev/video7; cd /m2m && insmod v4l2-mem2mem.ko && \
             insmod vicodec.ko multiplanar={planes} && insmod vicodec-h264.ko multiplanar={planes}"
        ));
        assert_eq!(said, "");
        type Step = (&'static str, fn(&Guest));
        let steps: &[Step] = if is_checked {
            &[
                ("pictures_are_those_of_v4l2_ctl", pictures_are_those_of_v4l2_ctl),
                ("check_names_decoders_and_refuses_the_liar", check_names_decoders_and_refuses_the_liar),
                ("auto_does_not_trust_the_liar", auto_does_not_trust_the_liar),
            ]
        } else {
            &[
                ("pictures_are_those_of_v4l2_ctl", pictures_are_those_of_v4l2_ctl),
                ("taken_away_in_mid_stream", taken_away_in_mid_stream),
                ("a_driver_that_hangs_is_left", a_driver_that_hangs_is_left),
            ]
        };
        for (name, step) in steps {
            let start = Instant::now();
            step(&guest);
            println!("{name} planes={planes} {:.1} s", start.elapsed().as_secs_f64());
        }
        let kernel = guest.run("dmesg");
        // Type 1326: a process was stopped by its system-call filter.
        for trouble in ["type=1326", "segfault", "traps:", "Out of memory", "Oops", "WARNING:"] {
            let found: Vec<&str> = kernel.lines().filter(|line| line.contains(trouble)).collect();
            assert!(found.is_empty(), "{found:#?}");
        }
        assert!(!guest.log().contains("sandbox_degraded"), "{}", guest.log());
        assert!(guest.stop().success());
    }
}

/// This test's own program, small enough for the guest's memory.
fn own_binary(folder: &Path) -> PathBuf {
    let small = folder.join("test");
    let own = std::env::current_exe().unwrap();
    let stripped = process::output(Command::new("strip").arg("-o").arg(&small).arg(own));
    assert!(stripped.status.success(), "{stripped:?}");
    small
}

/// Four seconds of red, a key frame each second, in no other order than they are shown: what builtin decodes is
/// seen as red.
fn red_clip(folder: &Path) -> PathBuf {
    let clip = folder.join("red.mp4");
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-f", "lavfi", "-i", "color=c=red:size=640x360:rate=5:duration=4"]);
    ffmpeg.args(["-pix_fmt", "yuv420p", "-c:v", "libx264", "-g", "5", "-bf", "0"]).arg(&clip);
    let made = process::output(&mut ffmpeg);
    assert!(made.status.success(), "{made:?}");
    clip
}

/// Runs in the guest: decodes a file of FWHT by weir's module, and writes the pictures.
fn decode_here(inside: &str) {
    let [device, input, output] = inside.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let coded = std::fs::read(input).unwrap();
    let mut file = std::io::BufWriter::new(std::fs::File::create(output).unwrap());
    let mut frames = 0;
    let decoded = bench::decode_on(Path::new(device), *b"FWHT", units(&coded), |picture| {
        frames += 1;
        let rows = picture.layout.planes(picture.width as usize, picture.height as usize);
        for (plane, (bytes, rows)) in picture.planes.iter().zip(rows) {
            (0..rows).for_each(|row| file.write_all(&plane.data[row * plane.stride..][..bytes]).unwrap());
        }
        Ok(())
    });
    println!("decoded={decoded:?} frames={frames}");
    assert_eq!(decoded.unwrap(), 0, "damaged pictures");
    assert_eq!(frames, units(&coded).count());
}

fn units(coded: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = coded;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        assert_eq!(rest[..8], MAGIC);
        let length = u32::from_be_bytes(rest[40..HEADER_BYTES].try_into().unwrap()) as usize;
        let unit;
        (unit, rest) = rest.split_at(HEADER_BYTES + length);
        Some(unit)
    })
}

/// The node of a driver of that kind.
fn node(guest: &Guest, driver: &str, kind: &str) -> String {
    let said = guest.run(&format!(
        "for node in /sys/class/video4linux/video*; do [ \"$(cat $node/name)\" = {kind} ] && \
         readlink $node/device | grep -q '/{driver}\\.' && echo /dev/${{node##*/}}; done"
    ));
    assert!(said.starts_with("/dev/video") && !said.contains('\n'), "{driver} {kind}: {said}");
    said
}

fn pictures_are_those_of_v4l2_ctl(guest: &Guest) {
    let encoder = node(guest, "vicodec", "stateful-encoder");
    let decoder = node(guest, "vicodec", "stateful-decoder");
    // One of a size that is padded, two formats, and a stream that changes its size twice.
    for (name, (width, height), format, pattern) in [
        ("nv12", (640, 368), "NV12", NOISE),
        ("yu12", (720, 480), "YU12", BARS),
        ("odd", (650, 362), "YU12", SQUARES),
    ] {
        let said = guest.run(&format!(
            "v4l2-ctl -d {encoder} --set-fmt-video-out=width={width},height={height},pixelformat={format} \
             --set-selection-output target=crop,width={width},height={height} --stream-out-mmap \
             --stream-mmap --stream-out-pattern {pattern} --stream-out-hor-speed 2 --stream-count 12 \
             --stream-to /tmp/{name}.fwht > /tmp/said 2>&1 || cat /tmp/said; [ -s /tmp/{name}.fwht ] || echo nothing"
        ));
        assert_eq!(said, "", "v4l2-ctl is content");
    }
    guest.run("cat /tmp/yu12.fwht /tmp/odd.fwht /tmp/yu12.fwht > /tmp/changing.fwht");
    for name in ["nv12", "yu12", "odd", "changing"] {
        let oracle = guest.run(&format!(
            "v4l2-ctl -d {decoder} --stream-from /tmp/{name}.fwht --stream-out-mmap --stream-mmap \
             --stream-to /tmp/{name}.oracle > /tmp/said 2>&1 || cat /tmp/said"
        ));
        assert_eq!(oracle, "", "v4l2-ctl is content");
        let said = guest.run(&format!(
            "{INSIDE}='{decoder} /tmp/{name}.fwht /tmp/{name}.own' /m2m/test {NAME} --exact --nocapture"
        ));
        assert!(said.contains("test result: ok. 1 passed"), "{name}: {said}");
        let sums =
            guest.run(&format!("ls -l /tmp/{name}.*; cmp /tmp/{name}.oracle /tmp/{name}.own && echo same"));
        assert!(sums.ends_with("same"), "{name}: {sums}\n{said}");
    }
}

fn check_names_decoders_and_refuses_the_liar(guest: &Guest) {
    let said = guest.run("WEIR_OFFLINE=1 weir check");
    let line = |node: &str| {
        let begin = format!("decoder  {node} ");
        said.lines()
            .find(|line| line.starts_with(&begin))
            .unwrap_or_else(|| panic!("{node}: {said}"))
            .to_owned()
    };
    let fwht = line(&node(guest, "vicodec", "stateful-decoder"));
    assert!(fwht.contains("(driver vicodec): FWHT, gives ") && fwht.contains("NV12"), "{fwht}");
    assert!(fwht.contains("not used: neither H.264 nor H.265"), "{fwht}");
    let liar = line(&node(guest, "vicodec-h264", "stateful-decoder"));
    assert!(liar.contains("(driver vicodec-h264): H.264, gives "), "{liar}");
    assert!(liar.contains("H.264 not used: a known picture of 320x240 comes out "), "{liar}");
}

/// A pipeline on the red clip, played again and again as a camera would be.
struct Watch<'a> {
    guest: &'a Guest,
    id: String,
    sink: udp::Receiver,
}

/// Who has decoded the picture of a datagram.
#[derive(Debug, PartialEq, Eq)]
enum By {
    Builtin,
    Driver,
}

impl<'a> Watch<'a> {
    fn start(guest: &'a Guest) -> Watch<'a> {
        let sink = udp::Receiver::new();
        let id = guest.init(&Json::parse(&format!(
            r#"{{"type": "init", "model_id": "/models/toy", "video_reference": "file:///clips/red.mp4",
                "sink_configuration": {{"type": "udp_sink", "host": "{}", "port": {}}},
                "model_configuration": {{"type": "object-detection"}}}}"#,
            guest::HOST,
            sink.port()
        )));
        Watch { guest, id, sink }
    }

    fn report(&self) -> Json {
        self.guest.report(&self.id)
    }

    /// The next frame's id, who has decoded it, and when it came, seconds since midnight.
    fn next(&self) -> (u64, By, f64) {
        let Some(text) = self.sink.text_within(PATIENCE) else { panic!("no datagram; {}", self.report()) };
        let datagram = Json::parse(&text);
        let seen = datagram.get("predictions").items();
        let by = if seen.is_empty() { By::Driver } else { By::Builtin };
        assert!(seen.iter().all(|one| one.get("class").text() == Some("red")), "{datagram}");
        let id = datagram.at("inference_metadata/frame_id").number().expect("a frame id") as u64;
        let stamp = datagram.at("inference_metadata/frame_decoding_time").text().unwrap();
        let (_, clock) = stamp.split_once('T').unwrap();
        let came = clock.split(':').fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().unwrap());
        (id, by, came)
    }

    /// The first frame that somebody decodes.
    fn wait_for(&self, wanted: &By) -> u64 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (id, by, _) = self.next();
            if by == *wanted {
                return id;
            }
            assert!(Instant::now() < deadline, "never by {wanted:?}: {}", self.report());
        }
    }

    fn updates(&self) -> String {
        self.report().get("video_source_status_updates").to_string()
    }

    fn terminate(self) {
        let answer = self.guest.order("terminate", &self.id);
        assert_eq!(answer.get("status").text(), Some("success"), "{answer}");
    }
}

fn auto_does_not_trust_the_liar(guest: &Guest) {
    let watch = Watch::start(guest);
    for _ in 0..6 {
        assert_eq!(watch.next().1, By::Builtin);
    }
    watch.terminate();
}

fn taken_away_in_mid_stream(guest: &Guest) {
    let watch = Watch::start(guest);
    for _ in 0..12 {
        let (id, by, _) = watch.next();
        assert_eq!(by, By::Driver, "frame {id}: {}", watch.updates());
    }
    let workers = guest.workers();
    watch.sink.drain();
    let said = guest.run("echo vicodec-h264.0 > /sys/bus/platform/drivers/vicodec-h264/unbind");
    assert_eq!(said, "");
    let gone = Instant::now();
    let mut last = watch.next();
    let (mut silence, mut lost) = (0.0, 0);
    while last.1 == By::Driver {
        assert!(gone.elapsed() < PATIENCE, "{}", watch.updates());
        let next = watch.next();
        assert!(next.0 > last.0, "ids go on: {last:?}, then {next:?}");
        (silence, lost) = ((next.2 - last.2).rem_euclid(86_400.0), next.0 - last.0 - 1);
        last = next;
    }
    let bench = Json::parse(&guest.run("weir bench decode /clips/red.mp4"));
    let figure = |name: &str| bench.get(name).number().unwrap_or_else(|| panic!("{bench}"));
    let group_s = GROUP * figure("wall_s") / figure("frames");
    println!(
        "builtin goes on after {silence:.2} s, {lost} frames later; it decodes {GROUP} frames in {group_s:.2} s"
    );
    assert!(silence <= MAX_FALL_BACK_S + group_s, "{silence}");
    for _ in 0..12 {
        let next = watch.next();
        assert!(next.0 > last.0 && next.1 == By::Builtin, "{last:?}, then {next:?}");
        last = next;
    }
    // The source was never lost: the same worker has it, and people are told.
    assert_eq!(guest.workers(), workers);
    assert_eq!(watch.report().at("sources_metadata/0/state").text(), Some("RUNNING"));
    assert!(watch.updates().contains("the builtin decoder goes on"), "{}", watch.updates());
    watch.terminate();
    // A pipeline that comes later does without as well.
    let watch = Watch::start(guest);
    watch.wait_for(&By::Builtin);
    watch.terminate();
    assert_eq!(guest.run("echo vicodec-h264.0 > /sys/bus/platform/drivers/vicodec-h264/bind"), "");
    let watch = Watch::start(guest);
    watch.wait_for(&By::Driver);
    watch.terminate();
}

fn a_driver_that_hangs_is_left(guest: &Guest) {
    let watch = Watch::start(guest);
    watch.wait_for(&By::Driver);
    assert_eq!(guest.run("echo 1 > /sys/module/vicodec_h264/parameters/hang"), "");
    let hung = Instant::now();
    let id = watch.wait_for(&By::Builtin);
    println!("builtin decodes {:.1} s after the driver hung, frame {id}", hung.elapsed().as_secs_f64());
    assert!(watch.updates().contains("2 workers died while v4l2 decoded"), "{}", watch.updates());
    // Nobody is left in the driver.
    let deadline = Instant::now() + PATIENCE;
    while guest.workers().len() > 1 {
        assert!(Instant::now() < deadline, "{:?}", guest.workers());
        std::thread::sleep(POLL);
    }
    watch.terminate();
    assert_eq!(guest.run("echo 0 > /sys/module/vicodec_h264/parameters/hang"), "");
}
