//! Cameras behind a real kernel's V4L2: weir in a guest of qemu's, the kernel's test cameras (`vivid`) there,
//! clients here.
//!
//! One guest for all steps: booting it is what costs. The cameras show one colour each time, and the toy
//! model names it: a wrong format, stride or order of planes is a wrong name.

use crate::support::guest::{self, Guest, UsbCamera};
use crate::support::{Json, PATIENCE, udp};
use std::time::{Duration, Instant};

/// Answer to `terminate`, worker gone included.
const MAX_TERMINATE: Duration = Duration::from_secs(1);

/// Resident memory of a worker that reads a camera of 640x480.
const MAX_WORKER_KIB: u64 = 25 * 1024;

/// Numbers of vivid's `test_pattern` control, and how the toy model calls them.
const COLOURS: [(u32, &str); 3] = [(7, "red"), (8, "green"), (9, "blue")];

/// A pipeline on a camera of the guest.
struct Watch<'a> {
    guest: &'a Guest,
    id: String,
    sink: udp::Receiver,
}

impl<'a> Watch<'a> {
    /// `reference` and `properties` as JSON.
    fn start(guest: &'a Guest, reference: &str, properties: &str) -> Watch<'a> {
        let sink = udp::Receiver::new();
        let id = guest.init(&Json::parse(&format!(
            r#"{{"type": "init", "model_id": "/models/toy", "video_reference": {reference},
                "video_source_properties": {properties},
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

    /// The next frame's datagram; it names the state where none comes.
    fn next(&self) -> Json {
        match self.sink.text_within(PATIENCE) {
            Some(text) => Json::parse(&text),
            None => panic!("no datagram; {}", self.report()),
        }
    }

    fn next_id(&self) -> u64 {
        frame_id(&self.next())
    }

    /// Waits for a status update with these words.
    fn wait_words(&self, words: &str) {
        let mut last = Json::Null;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            last = self.report();
            if last.get("video_source_status_updates").to_string().contains(words) {
                return;
            }
            std::thread::sleep(crate::support::POLL);
        }
        panic!("never `{words}`: {last}");
    }

    /// Waits for a frame in which the model sees this class and no other.
    fn wait_class(&self, class: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let datagram = self.next();
            let seen = datagram.get("predictions").items();
            if !seen.is_empty() && seen.iter().all(|one| one.get("class").text() == Some(class)) {
                return;
            }
            assert!(Instant::now() < deadline, "no {class}: {datagram}");
        }
    }

    fn terminate(self) {
        let start = Instant::now();
        let answer = self.guest.order("terminate", &self.id);
        let took = start.elapsed();
        assert_eq!(answer.get("status").text(), Some("success"), "{answer}");
        assert!(took <= MAX_TERMINATE, "terminate took {took:?}");
        let left = self.guest.workers();
        assert!(left.is_empty(), "workers {left:?} are left");
    }
}

fn frame_id(datagram: &Json) -> u64 {
    datagram.at("inference_metadata/frame_id").number().expect("a frame id") as u64
}

/// Seconds since midnight of `2026-11-22T10:31:03.445053`.
fn seconds(datagram: &Json) -> f64 {
    let stamp = datagram.at("inference_metadata/frame_decoding_time").text().unwrap();
    let (_, clock) = stamp.split_once('T').unwrap();
    clock.split(':').fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().unwrap())
}

fn show(guest: &Guest, device: u32, control: &str) {
    let said = guest.run(&format!("v4l2-ctl -d{device} -c {control}"));
    assert_eq!(said, "", "v4l2-ctl is content");
}

fn named_by_number_path_and_link(guest: &Guest) {
    for reference in ["0", r#""/dev/video0""#, r#""/dev/v4l/by-id/usb-vivid-index0""#] {
        let watch = Watch::start(guest, reference, "{}");
        assert_eq!(watch.next_id(), 1, "{reference}");
        let source = watch.report().at("sources_metadata/0").clone();
        assert_eq!(source.get("source_reference").to_string(), reference);
        assert_eq!(source.at("source_properties/width").number(), Some(640.0), "{source}");
        assert_eq!(source.at("source_properties/height").number(), Some(480.0), "{source}");
        assert_eq!(source.at("source_properties/is_file"), &Json::Bool(false), "{source}");
        watch.terminate();
    }
}

fn every_format_shows_the_right_colours(guest: &Guest) {
    show(guest, 0, "osd_text_mode=2");
    for format in ["NV12", "YUYV", "UYVY", "YU12", "BGR3", "RGB3"] {
        // Another program left a padded stride behind: it must not become ours unnoticed.
        guest.run(&format!(
            "v4l2-ctl -d0 --set-fmt-video=width=320,height=180,pixelformat={format},bytesperline=2048"
        ));
        let code = u32::from_le_bytes(format.as_bytes().try_into().unwrap());
        let properties = format!(r#"{{"fourcc": {code}, "frame_width": 320, "frame_height": 180}}"#);
        let watch = Watch::start(guest, "0", &properties);
        for (pattern, class) in COLOURS {
            show(guest, 0, &format!("test_pattern={pattern}"));
            watch.wait_class(class);
        }
        watch.terminate();
    }
    // As newer clients write it.
    let watch = Watch::start(guest, "0", r#"{"fourcc": "GREY", "frame_width": 320, "frame_height": 180}"#);
    assert_eq!(watch.next().get("predictions").items(), [], "no colour in a gray picture");
    watch.terminate();
}

fn a_camera_whose_planes_lie_apart_shows_the_right_colours(guest: &Guest) {
    show(guest, 2, "osd_text_mode=2");
    // Planes with memory of their own, and formats of one plane through the same listener.
    for format in ["NM12", "YM12", "NV12", "YU12", "YUYV", "RGB3"] {
        let properties = format!(r#"{{"fourcc": "{format}", "frame_width": 320, "frame_height": 180}}"#);
        let watch = Watch::start(guest, "2", &properties);
        for (pattern, class) in COLOURS {
            show(guest, 2, &format!("test_pattern={pattern}"));
            watch.wait_class(class);
        }
        assert_eq!(watch.next().get("image").to_string(), r#"{"width": 320, "height": 180}"#, "{format}");
        watch.terminate();
    }
    let watch = Watch::start(guest, "2", r#"{"fps": 10}"#);
    assert_eq!(watch.next_id(), 1);
    watch.terminate();
}

fn properties_take_effect(guest: &Guest) {
    show(guest, 0, "test_pattern=7");
    let properties = r#"{"frame_width": 640, "frame_height": 360, "fps": 10, "brightness": 131, "saturation": 0, "zoom": 3}"#;
    let watch = Watch::start(guest, "0", properties);
    let frames: Vec<Json> = (0..12).map(|_| watch.next()).collect();
    assert_eq!(frames[0].get("image").to_string(), r#"{"width": 640, "height": 360}"#);
    assert_eq!(watch.report().at("sources_metadata/0/source_properties/fps").number(), Some(10.0));
    // By frame ids: a slow machine drops frames, and the camera's clock is what counts.
    let (first, last) = (&frames[1], &frames[11]);
    let interval =
        (seconds(last) - seconds(first)).rem_euclid(86_400.0) / (frame_id(last) - frame_id(first)) as f64;
    assert!((0.08..=0.125).contains(&interval), "a frame every {interval:.3} s");
    assert_eq!(guest.run("v4l2-ctl -d0 -C brightness,saturation"), "brightness: 131\nsaturation: 0");
    assert_eq!(frames[11].get("predictions").items(), [], "without saturation there is no red");
    assert!(guest.run("v4l2-ctl -d0 -P").contains("10.000 (10/1)"), "the driver's rate");
    watch.terminate();
    show(guest, 0, "saturation=128");
}

fn check_describes_the_devices(guest: &Guest) {
    let said = guest.run("WEIR_OFFLINE=1 weir check");
    let has =
        |begin: &str, part: &str| said.lines().any(|line| line.starts_with(begin) && line.contains(part));
    for device in ["/dev/video0", "/dev/video1", "/dev/video2"] {
        assert!(has(&format!("camera   {device} "), "vivid"), "{said}");
        assert!(has(&format!("format   {device} YUYV "), "640x480 at "), "{said}");
        assert!(has(&format!("format   {device} not understood: "), "BGR4"), "{said}");
    }
    // Its planes lie apart.
    assert!(has("format   /dev/video2 NM12 ", "640x480 at "), "{said}");
    assert!(has("clock", "not known here"), "{said}");
}

fn refusals_are_named(guest: &Guest) {
    let first = Watch::start(guest, "0", "{}");
    let before = first.next_id();
    let mjpg = u32::from_le_bytes(*b"MJPG");
    let refused = [
        ("0", "{}".to_owned(), "SourceConnectionError", "the device is busy"),
        ("9", "{}".to_owned(), "SourceConnectionError", "there is no such device"),
        (r#""/dev/v4l/by-id/nobody""#, "{}".to_owned(), "SourceConnectionError", "there is no such device"),
        // `/dev/null` under another name (tests/vm/init).
        ("7", "{}".to_owned(), "SourceUnsupportedError", "the device is no camera"),
        (
            "1",
            format!(r#"{{"fourcc": {mjpg}}}"#),
            "SourceUnsupportedError",
            "no pixel format MJPG: the camera offers ",
        ),
    ];
    for (reference, properties, class, words) in refused {
        let watch = Watch::start(guest, reference, &properties);
        watch.wait_words(words);
        let updates = watch.report().get("video_source_status_updates").to_string();
        assert!(updates.contains(class), "{updates}");
        let answer = guest.order("terminate", &watch.id);
        assert_eq!(answer.get("status").text(), Some("success"), "{answer}");
    }
    // Whoever has the camera keeps it.
    assert!(first.next_id() > before);
    assert_eq!(first.report().at("sources_metadata/0/state").text(), Some("RUNNING"));
    first.terminate();
}

fn workers_are_confined(guest: &Guest) {
    let watch = Watch::start(guest, "0", "{}");
    for _ in 0..10 {
        watch.next();
    }
    let workers = guest.workers();
    let [worker] = workers.as_slice() else { panic!("one worker, not {workers:?}") };
    assert_eq!(guest.process_status(*worker, "Seccomp"), "2", "a filter is installed");
    // Three programs for each of two stages: while the camera is opened, and once it is open. On arm64 this
    // also says that their numbers are right: the camera plays, and nothing in the kernel's log was stopped.
    assert_eq!(guest.process_status(*worker, "Seccomp_filters"), "6");
    assert_eq!(guest.process_status(*worker, "NoNewPrivs"), "1");
    let resident = guest.process_status(*worker, "VmRSS");
    let kibibytes: u64 = resident.trim_end_matches(" kB").parse().unwrap();
    assert!(kibibytes <= MAX_WORKER_KIB, "the worker has {resident}");
    println!("worker VmRSS={resident} service VmRSS={}", guest.process_status(guest.service(), "VmRSS"));
    watch.terminate();
}

fn faults_of_a_driver_are_survived(guest: &Guest) {
    let watch = Watch::start(guest, "0", "{}");
    let before = watch.next_id();
    // A buffer marked as damaged, and half of all buffers lost: the stream goes on.
    show(guest, 0, "inject_v4l2_buf_flag_error=1");
    show(guest, 0, "percentage_of_dropped_buffers=50");
    for _ in 0..10 {
        watch.next();
    }
    show(guest, 0, "percentage_of_dropped_buffers=0");
    let [worker] = guest.workers()[..] else { panic!("one worker") };
    // A driver that gives up: the camera is opened again, frame ids go on.
    show(guest, 0, "inject_fatal_streaming_error=1");
    watch.wait_words("the device failed");
    watch.sink.drain();
    assert!(watch.next_id() > before);
    assert!(!guest.workers().contains(&worker), "a new worker has it");
    watch.terminate();
    // A driver that does not start at the first attempt.
    for fault in
        ["inject_vidioc_reqbufs_error=1", "inject_vidioc_streamon_error=1", "inject_vidioc_qbuf_error=1"]
    {
        show(guest, 0, fault);
        let watch = Watch::start(guest, "0", "{}");
        watch.next();
        watch.terminate();
    }
}

fn unplugged_and_plugged_again(guest: &Guest) {
    let watch = Watch::start(guest, r#""/dev/v4l/by-id/usb-vivid-index0""#, "{}");
    let mut before = watch.next_id();
    assert_eq!(guest.run("echo vivid.0 > /sys/bus/platform/drivers/vivid/unbind"), "");
    watch.wait_words("the device was unplugged");
    watch.wait_words("there is no such device");
    assert_ne!(watch.report().at("sources_metadata/0/state").text(), Some("RUNNING"));
    while let Some(text) = watch.sink.text_within(Duration::from_millis(1)) {
        before = frame_id(&Json::parse(&text));
    }
    assert_eq!(
        guest.run("echo vivid.0 > /sys/bus/platform/drivers/vivid/bind; ls /dev/video0"),
        "/dev/video0"
    );
    let back = Instant::now();
    let after = watch.next_id();
    println!("frames again after {:.1} s", back.elapsed().as_secs_f64());
    assert!(after > before, "frame ids go on: {before}, then {after}");
    guest.wait_state(&watch.id, "RUNNING");
    watch.terminate();
}

/// The camera of tests/vm/usb_camera.py: MJPG at 30 fps shows green, YUYV at 5 fps red.
fn a_usb_camera_gives_jpeg(guest: &Guest) {
    let mut camera = UsbCamera::plug_in(guest);
    // YUYV is dearer to us, but not at 5 frames per second.
    let watch = Watch::start(guest, "3", "{}");
    watch.wait_class("green");
    assert_eq!(watch.report().at("sources_metadata/0/source_properties/fps").number(), Some(30.0));
    watch.terminate();
    let yuyv = u32::from_le_bytes(*b"YUYV");
    let watch = Watch::start(guest, "3", &format!(r#"{{"fourcc": {yuyv}, "brightness": 1000}}"#));
    watch.wait_class("red");
    assert_eq!(watch.report().at("sources_metadata/0/source_properties/fps").number(), Some(5.0));
    assert_eq!(guest.run("v4l2-ctl -d3 -C brightness"), "brightness: 64", "the most that it can");
    watch.terminate();
    // Its second node gives metadata, no pictures.
    let metadata = Watch::start(guest, "4", "{}");
    metadata.wait_words("the device is no camera");
    guest.order("terminate", &metadata.id);
    // The cable is pulled out and put in again.
    let watch = Watch::start(guest, "3", "{}");
    let mut before = watch.next_id();
    camera.pull_out();
    watch.wait_words("the device was unplugged");
    while let Some(text) = watch.sink.text_within(Duration::from_millis(1)) {
        before = frame_id(&Json::parse(&text));
    }
    let _camera = UsbCamera::plug_in(guest);
    let back = Instant::now();
    assert!(watch.next_id() > before);
    println!("frames of the USB camera again after {:.1} s", back.elapsed().as_secs_f64());
    watch.terminate();
}

#[test]
fn cameras_of_a_real_kernel() {
    let start = Instant::now();
    let Some(guest) = Guest::boot() else { return };
    println!("boot {:.1} s", start.elapsed().as_secs_f64());
    type Step = (&'static str, fn(&Guest));
    let steps: [Step; 10] = [
        ("named_by_number_path_and_link", named_by_number_path_and_link),
        ("every_format_shows_the_right_colours", every_format_shows_the_right_colours),
        ("a_camera_whose_planes_lie_apart", a_camera_whose_planes_lie_apart_shows_the_right_colours),
        ("properties_take_effect", properties_take_effect),
        ("check_describes_the_devices", check_describes_the_devices),
        ("refusals_are_named", refusals_are_named),
        ("workers_are_confined", workers_are_confined),
        ("faults_of_a_driver_are_survived", faults_of_a_driver_are_survived),
        ("unplugged_and_plugged_again", unplugged_and_plugged_again),
        ("a_usb_camera_gives_jpeg", a_usb_camera_gives_jpeg),
    ];
    for (name, step) in steps {
        let start = Instant::now();
        eprintln!("{name} …");
        step(&guest);
        println!("{name} {:.1} s", start.elapsed().as_secs_f64());
    }
    let kernel = guest.run("dmesg");
    // Type 1326: a process was stopped by its system-call filter.
    for trouble in ["type=1326", "segfault", "traps:", "Out of memory", "Oops"] {
        let found: Vec<&str> = kernel.lines().filter(|line| line.contains(trouble)).collect();
        assert!(found.is_empty(), "{found:#?}");
    }
    assert!(!guest.log().contains("sandbox_degraded"), "{}", guest.log());
    let status = guest.stop();
    assert!(status.success(), "{status}");
}
