//! Pictures of cameras: the frame that they say they are (ffmpeg decodes both), with boxes where the
//! datagrams say, black where a mask is, and only for who may look.

use crate::support::events::Events;
use crate::support::weir::lay_out_toy;
use crate::support::{Folder, Json, Weir, clip, http, process, request, udp, wait_for};
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

/// Size of the test clips, pixels.
const CLIP: (usize, usize) = (640, 480);

/// Mean difference of a channel that scaling and JPEG make, of 255.
const LIKE: f64 = 4.0;

/// A reply whose body need not be text.
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.split_once(": ").filter(|(key, _)| *key == name))
            .map(|(_, value)| value)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    fn frame_id(&self) -> usize {
        assert_eq!(self.status, 200, "{}", self.text());
        self.header("x-frame-id").unwrap().parse().unwrap()
    }

    #[track_caller]
    fn picture(&self) -> Pixels {
        assert_eq!((self.status, self.header("content-type")), (200, Some("image/jpeg")), "{}", self.text());
        decoded(&self.body)
    }
}

fn ask(address: SocketAddr, method: &str, path: &str, fields: &str, body: &str) -> Reply {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{fields}content-length: {length}\r\n\r\n{body}"
    );
    let bytes = http::exchange(address, request.as_bytes());
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, head, body: bytes[end + 4..].to_vec() }
}

fn get(weir: &Weir, path: &str) -> Reply {
    ask(weir.http, "GET", path, "", "")
}

fn snapshot(weir: &Weir, id: &str, query: &str) -> Reply {
    get(weir, &format!("/pipelines/{id}/snapshot.jpg?{query}"))
}

/// R, G, B of each pixel.
struct Pixels {
    width: usize,
    height: usize,
    bytes: Vec<u8>,
}

impl Pixels {
    fn at(&self, x: usize, y: usize) -> [u8; 3] {
        let at = (y * self.width + x) * 3;
        [self.bytes[at], self.bytes[at + 1], self.bytes[at + 2]]
    }

    /// Mean difference per channel, over the pixels that `of` picks.
    fn difference(&self, other: &Pixels, of: impl Fn(usize, usize) -> bool) -> f64 {
        assert_eq!((self.width, self.height), (other.width, other.height));
        let (mut sum, mut count) = (0, 0);
        for (x, y) in
            (0..self.height).flat_map(|y| (0..self.width).map(move |x| (x, y))).filter(|(x, y)| of(*x, *y))
        {
            sum +=
                self.at(x, y).iter().zip(other.at(x, y)).map(|(a, b)| u64::from(a.abs_diff(b))).sum::<u64>();
            count += 3;
        }
        sum as f64 / f64::from(count)
    }
}

/// What ffmpeg makes of a picture.
#[track_caller]
fn decoded(jpeg: &[u8]) -> Pixels {
    let folder = Folder::new();
    let file = folder.path().join("a.jpg");
    std::fs::write(&file, jpeg).unwrap();
    let size = process::output(
        Command::new("ffprobe")
            .args(["-v", "error", "-show_entries", "stream=width,height", "-of", "csv=p=0"])
            .arg(&file),
    );
    let size = String::from_utf8(size.stdout).unwrap();
    let (width, height) = size.trim().split_once(',').unwrap_or_else(|| panic!("no picture: {size:?}"));
    let (width, height) = (width.parse().unwrap(), height.parse().unwrap());
    let bytes = raw(Command::new("ffmpeg").args(["-v", "error", "-i"]).arg(&file));
    assert_eq!(bytes.len(), width * height * 3);
    Pixels { width, height, bytes }
}

#[track_caller]
fn raw(ffmpeg: &mut Command) -> Vec<u8> {
    let made = process::output(ffmpeg.args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]));
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    made.stdout
}

/// Frame `id` (the first is 1) of a clip, as ffmpeg decodes and scales it.
fn frame_of(clip: &str, id: usize, width: usize, height: usize) -> Pixels {
    let filter = format!("select=eq(n\\,{}),scale={width}:{height}:flags=bilinear", id - 1);
    let bytes =
        raw(Command::new("ffmpeg").args(["-v", "error", "-i", clip, "-vf", &filter, "-frames:v", "1"]));
    assert_eq!(bytes.len(), width * height * 3, "frame {id}");
    Pixels { width, height, bytes }
}

fn init(weir: &Weir, video: &str, extra: &str) -> String {
    weir.init(&request::init(&weir.toy(), &request::quoted(video), 9, extra))
}

/// A camera: the long clip at its own speed, again and again.
fn camera() -> String {
    format!("file://{}", clip("long.mp4"))
}

#[test]
fn a_snapshot_is_the_frame_that_it_names_at_the_size_asked_for() {
    let weir = Weir::start();
    let id = init(&weir, &camera(), "");
    for (query, width, height) in [("width=320", 320, 240), ("", 640, 480), ("width=100&boxes=0", 100, 75)] {
        let reply = snapshot(&weir, &id, query);
        let (shown, frame) = (reply.picture(), reply.frame_id());
        assert_eq!((shown.width, shown.height), (width, height), "{query}");
        for (name, value) in [
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(reply.header(name), Some(value), "{query}");
        }
        let found = shown.difference(&frame_of(&clip("long.mp4"), frame, width, height), |_, _| true);
        let other = shown.difference(&frame_of(&clip("long.mp4"), frame + 15, width, height), |_, _| true);
        assert!(
            found < LIKE && found < other,
            "{query}: frame {frame} differs by {found}, another by {other}"
        );
    }
}

#[test]
fn boxes_lie_where_the_datagram_of_that_frame_says() {
    let weir = Weir::start();
    let id = init(&weir, &camera(), "");
    let mut events = Events::listen(weir.http, &id).unwrap();
    let reply = snapshot(&weir, &id, "width=640&boxes=1");
    let (shown, frame) = (reply.picture(), reply.frame_id());
    let bare = frame_of(&clip("long.mp4"), frame, CLIP.0, CLIP.1);
    let found = loop {
        let event = events.named("detections").json();
        if event.at("inference_metadata/frame_id").number() == Some(frame as f64) {
            break event;
        }
    };
    let boxes = found.get("predictions").items();
    assert!(!boxes.is_empty(), "{found}");
    let time = found.at("inference_metadata/frame_decoding_time").text().unwrap().to_ascii_lowercase();
    assert_eq!(reply.header("x-timestamp"), Some(time.as_str()));
    let mut near = vec![false; CLIP.0 * CLIP.1];
    for one in boxes {
        let value = |name: &str| one.get(name).number().unwrap();
        let (left, top) = (value("x") - value("width") / 2.0, value("y") - value("height") / 2.0);
        let (left, top, right, bottom) =
            (left as usize, top as usize, (left + value("width")) as usize, (top + value("height")) as usize);
        let differs = |x: usize, y: usize| {
            let (shown, bare) = (
                shown.at(x.min(CLIP.0 - 1), y.min(CLIP.1 - 1)),
                bare.at(x.min(CLIP.0 - 1), y.min(CLIP.1 - 1)),
            );
            shown.iter().zip(bare).map(|(a, b)| u32::from(a.abs_diff(b))).sum::<u32>() > 60
        };
        // Lines are two pixels thick, and JPEG halves the resolution of colours.
        let below = (left..right).map(|x| [(x, bottom - 1), (x, bottom - 2)]);
        let beside = (top..bottom).map(|y| [(left, y), (left + 1, y)]);
        let is_drawn = |line: [(usize, usize); 2]| line.into_iter().any(|(x, y)| differs(x, y));
        let edges = below.chain(beside);
        let (count, drawn) =
            edges.fold((0, 0), |(count, drawn), line| (count + 1, drawn + usize::from(is_drawn(line))));
        assert!(drawn * 10 >= count * 9, "{drawn} of {count} pixels of the edges of {one}");
        // Boxes with their names, and what JPEG smears around them.
        for y in top.saturating_sub(30)..(bottom + 12).min(CLIP.1) {
            for x in left.saturating_sub(12)..(right + 120).min(CLIP.0) {
                let inside = x > left + 12 && x + 12 < right && y > top + 24 && y + 12 < bottom;
                near[y * CLIP.0 + x] |= !inside;
            }
        }
    }
    let elsewhere = shown.difference(&bare, |x, y| !near[y * CLIP.0 + x]);
    assert!(elsewhere < LIKE, "beside the boxes it is the frame: {elsewhere}");
}

#[test]
fn live_pictures_are_whole_in_order_and_each_of_its_frame() {
    let weir = Weir::start();
    let id = init(&weir, &camera(), "");
    let mut live = Live::open(&weir, &id, "width=320&fps=20");
    let started = Instant::now();
    let mut last = 0;
    for index in 0..6 {
        let (frame, jpeg) = live.next();
        assert!(frame > last, "{frame} after {last}");
        last = frame;
        if index % 3 == 0 {
            let found = decoded(&jpeg).difference(&frame_of(&clip("long.mp4"), frame, 320, 240), |_, _| true);
            assert!(found < LIKE, "frame {frame} differs by {found}");
        }
    }
    assert!(started.elapsed() > Duration::from_millis(200), "20 a second are 6 in a quarter of one");
    weir.order("terminate", &id);
    live.end();
}

/// The parts of a stream.
struct Live(BufReader<TcpStream>, String);

impl Live {
    #[track_caller]
    fn open(weir: &Weir, id: &str, query: &str) -> Live {
        let mut stream = http::connect(weir.http);
        let request = format!("GET /pipelines/{id}/live.mjpeg?{query} HTTP/1.0\r\nhost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut live = Live(BufReader::new(stream), String::new());
        let head = live.head();
        assert!(
            head.starts_with("http/1.") && head.contains(" 200 ") && head.contains("cache-control: no-store"),
            "{head}"
        );
        live.1 = head
            .split_once("multipart/x-mixed-replace; boundary=")
            .unwrap()
            .1
            .split("\r\n")
            .next()
            .unwrap()
            .to_owned();
        assert_eq!(live.line(), format!("--{}\r\n", live.1));
        live
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line in time");
        line
    }

    fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let line = self.line();
            assert!(!line.is_empty(), "closed after {head:?}");
            head += &line;
        }
        head.to_ascii_lowercase()
    }

    /// The next picture and its frame.
    #[track_caller]
    fn next(&mut self) -> (usize, Vec<u8>) {
        let head = self.head();
        let field = |name: &str| {
            head.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
        };
        assert_eq!(field("content-type:").as_deref(), Some("image/jpeg"), "{head}");
        assert!(field("x-timestamp:").is_some(), "{head}");
        let mut jpeg = vec![0; field("content-length:").unwrap().parse().unwrap()];
        self.0.read_exact(&mut jpeg).expect("a whole picture");
        assert!(jpeg.starts_with(&[0xff, 0xd8]) && jpeg.ends_with(&[0xff, 0xd9]));
        assert_eq!((self.line(), self.line()), ("\r\n".to_owned(), format!("--{}\r\n", self.1)));
        (field("x-frame-id:").unwrap().parse().unwrap(), jpeg)
    }

    /// Nothing follows but what is under way.
    fn end(mut self) {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).expect("the stream ends with the pipeline");
    }
}

/// Pictures made so far.
fn made(weir: &Weir) -> f64 {
    let page = weir.get("/metrics").body;
    let samples = page.lines().filter(|line| line.starts_with("weir_source_pictures_total{"));
    samples.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

#[test]
fn nothing_is_made_for_nobody_and_no_more_than_fits_for_who_reads_nothing() {
    let weir = Weir::start();
    let sink = udp::Receiver::new();
    let id = weir.init(&request::init(&weir.toy(), &request::quoted(&camera()), sink.port(), ""));
    (0..20).for_each(|_| drop(sink.next()));
    assert_eq!(made(&weir), 0.0, "nobody has looked");
    let mut stream = http::connect(weir.http);
    // Little fits into what is under way.
    rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 4096).unwrap();
    stream
        .write_all(
            format!("GET /pipelines/{id}/live.mjpeg?fps=30 HTTP/1.0\r\nhost: localhost\r\n\r\n").as_bytes(),
        )
        .unwrap();
    wait_for("a first picture", || (made(&weir) > 0.0).then_some(()));
    // Frames go on; pictures do not. (What the kernel takes in between is some megabytes at most.)
    let (mut before, mut still) = (made(&weir), 0);
    wait_for("the pictures to stop", || {
        (0..30).for_each(|_| drop(sink.next()));
        let now = made(&weir);
        still = if now == before { still + 1 } else { 0 };
        before = now;
        (still >= 2).then_some(())
    });
    // Another viewer is served as ever.
    assert_eq!(snapshot(&weir, &id, "width=64").status, 200);
}

#[test]
fn viewers_of_one_size_share_each_picture() {
    let weir = Weir::configured("[http]\npicture_viewers = 3\n");
    let id = init(&weir, &camera(), "");
    let mut viewers: Vec<_> = (0..3).map(|_| Live::open(&weir, &id, "width=320&fps=30")).collect();
    let refused = snapshot(&weir, &id, "");
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("picture_viewers"), "{}", refused.text());
    let before = made(&weir);
    let (mut seen, mut frames) = (0, BTreeSet::new());
    for _ in 0..8 {
        for viewer in &mut viewers {
            seen += 1;
            frames.insert(viewer.next().0);
        }
    }
    let each = made(&weir) - before;
    // A picture of one size for each frame, and those that are under way.
    assert!(each <= (frames.len() + 3) as f64, "{each} were made of {} frames", frames.len());
    assert!(frames.len() < seen, "{seen} pictures of as many frames: nobody shared one");
    drop(viewers);
    wait_for("a place", || (snapshot(&weir, &id, "").status == 200).then_some(()));
}

#[test]
fn masks_are_black_in_pictures_and_nothing_is_found_behind_them() {
    let (state, models) = (Folder::new(), Folder::new());
    lay_out_toy(models.path());
    let toy = models.path().join("toy").display().to_string();
    let start = || {
        Weir::start_with(|command| {
            command.env("STATE_DIRECTORY", state.path()).env("WEIR_MODELS_DIR", models.path());
        })
    };
    let weir = start();
    let sink = udp::Receiver::new();
    let masks = "[[[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]]";
    let extra = format!(r#", "privacy_masks": {masks}"#);
    let id = weir.init(&request::init(&toy, &request::quoted(&camera()), sink.port(), &extra));
    let check = |weir: &Weir| {
        let reply = snapshot(weir, &id, "width=640");
        let (shown, frame) = (reply.picture(), reply.frame_id());
        let black = Pixels { width: CLIP.0, height: CLIP.1, bytes: vec![0; CLIP.0 * CLIP.1 * 3] };
        let masked = shown.difference(&black, |x, _| x < CLIP.0 / 2 - 8);
        assert!(masked < 2.0, "{masked}");
        frame
    };
    let frame = check(&weir);
    let shown = snapshot(&weir, &id, "width=640");
    let bare = frame_of(&clip("long.mp4"), shown.frame_id(), CLIP.0, CLIP.1);
    assert!(
        shown.picture().difference(&bare, |x, _| x > CLIP.0 / 2 + 8) < LIKE,
        "the rest is the frame {frame}"
    );
    let report = weir.report(&id);
    assert_eq!(
        report.at("sources_metadata/0/privacy_masks").to_string(),
        format!("[{}]", &masks[1..masks.len() - 1])
    );
    // As after a crash: it is read from the disk.
    drop(weir);
    let weir = start();
    wait_for("the restored pipeline", || (snapshot(&weir, &id, "").status == 200).then_some(()));
    check(&weir);
    drop(weir);
    // Behind a mask over everything is nothing.
    let weir = Weir::start();
    let all = r#", "privacy_masks": [[[0, 0], [1, 0], [1, 1], [0, 1]]]"#;
    let found = |extra: &str| {
        let sink = udp::Receiver::new();
        weir.init(&request::init(&weir.toy(), &request::quoted(&clip("short.mp4")), sink.port(), extra));
        (0..60).map(|_| sink.next().get("predictions").items().len()).sum::<usize>()
    };
    assert!(found("") > 0);
    assert_eq!(found(all), 0);
}

#[test]
fn without_a_frame_the_reason_is_told() {
    let weir = Weir::start();
    let id = init(&weir, &camera(), "");
    assert_eq!(snapshot(&weir, &id, "").status, 200);
    weir.order("mute", &id);
    for path in ["snapshot.jpg", "live.mjpeg"] {
        let reply = get(&weir, &format!("/pipelines/{id}/{path}"));
        assert_eq!((reply.status, reply.text().contains("paused")), (503, true), "{}", reply.text());
    }
    weir.order("resume", &id);
    assert_eq!(snapshot(&weir, &id, "").status, 200);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dead = init(&weir, &format!("rtsp://user:secret@127.0.0.1:{port}/cam"), "");
    wait_for("an error", || {
        let state = weir.report(&dead).at("sources_metadata/0/state").text().map(str::to_owned);
        matches!(state.as_deref(), Some("ERROR" | "RESTARTING")).then_some(())
    });
    let reply = snapshot(&weir, &dead, "");
    let text = reply.text();
    assert_eq!(reply.status, 503, "{text}");
    assert!(text.contains("Cannot connect") && !text.contains("secret"), "{text}");
    let ended = init(&weir, &clip("short.mp4"), "");
    weir.wait_state(&ended, "ENDED");
    let reply = snapshot(&weir, &ended, "");
    assert_eq!((reply.status, reply.text().contains("ended")), (503, true), "{}", reply.text());
}

#[test]
fn only_who_may_look_sees_and_only_what_there_is() {
    let folder = Folder::new();
    let tokens = folder.path().join("tokens");
    std::fs::write(&tokens, "page read 0123456789abcdef\nops control fedcba9876543210\n").unwrap();
    let weir = Weir::configured(&format!("[access]\ntokens_file = {:?}\n", tokens.display().to_string()));
    let (read, control) =
        ("authorization: Bearer 0123456789abcdef\r\n", "authorization: Bearer fedcba9876543210\r\n");
    let body = request::init(&weir.toy(), &request::quoted(&camera()), 9, "").to_string();
    let json = format!("{control}content-type: application/json\r\n");
    let made = ask(weir.http, "POST", "/initialise", &json, &body);
    let id = Json::parse(&made.text()).at("context/pipeline_id").text().unwrap().to_owned();
    let path = |rest: &str| format!("/pipelines/{id}/{rest}");
    let nobody = "/pipelines/00000000-0000-0000-0000-000000000000/snapshot.jpg".to_owned();
    for (path, fields, status) in [
        (path("snapshot.jpg"), "", 401),
        (path("live.mjpeg"), "", 401),
        (path("snapshot.jpg"), read, 200),
        (path("snapshot.jpg?source=1"), read, 404),
        (path("snapshot.jpg?source=x"), read, 422),
        (path("snapshot.jpg?width=0"), read, 422),
        (path("live.mjpeg?fps=0"), read, 422),
        (nobody, read, 404),
        ("/pipelines/nonsense/live.mjpeg".to_owned(), read, 404),
    ] {
        let reply = ask(weir.http, "GET", &path, fields, "");
        assert_eq!(reply.status, status, "{path}: {}", reply.text());
    }
    let source = format!(r#"{{"video_reference": {}}}"#, request::quoted(&clip("short.mp4")));
    let fields = |token: &str| format!("{token}content-type: application/json\r\n");
    assert_eq!(ask(weir.http, "POST", "/video_sources/snapshot", &fields(read), &source).status, 403);
    assert_eq!(ask(weir.http, "POST", "/video_sources/snapshot", &fields(control), &source).status, 200);
    let strange = format!("{}origin: https://evil.example\r\n", fields(control));
    assert_eq!(ask(weir.http, "POST", "/video_sources/snapshot", &strange, &source).status, 403);
    let off = Weir::configured("[http]\npictures = false\n");
    let id = init(&off, &camera(), "");
    for reply in [
        snapshot(&off, &id, ""),
        get(&off, &format!("/pipelines/{id}/live.mjpeg")),
        ask(off.http, "POST", "/video_sources/snapshot", "content-type: application/json\r\n", &source),
    ] {
        assert_eq!((reply.status, reply.text().contains("http.pictures")), (403, true), "{}", reply.text());
    }
}

#[test]
fn a_source_is_tried_under_the_rules_of_init_and_nothing_remains() {
    let folder = Folder::new();
    let allowed = folder.path().join("a.mp4");
    std::fs::copy(clip("short.mp4"), &allowed).unwrap();
    let weir = Weir::configured(&format!(
        "[sources]\ndirs = [{:?}]\nhosts = [\"127.0.0.1\"]\n",
        folder.path().display().to_string()
    ));
    let look = |body: &str| {
        ask(weir.http, "POST", "/video_sources/snapshot", "content-type: application/json\r\n", body)
    };
    let of = |reference: &str| look(&format!(r#"{{"video_reference": {}}}"#, request::quoted(reference)));
    let reply = of(&allowed.display().to_string());
    let first = frame_of(&clip("short.mp4"), 1, CLIP.0, CLIP.1);
    assert!(reply.picture().difference(&first, |_, _| true) < LIKE);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dead = format!("http://user:secret@127.0.0.1:{port}/a.mjpeg");
    for (reference, status, words) in [
        (clip("short.mp4"), 403, "configuration allows"),
        ("rtsp://10.9.8.7/cam".to_owned(), 403, "configuration allows"),
        (dead, 502, "Cannot connect"),
    ] {
        let reply = of(&reference);
        let text = reply.text();
        assert_eq!(reply.status, status, "{reference}: {text}");
        assert!(text.contains(words) && !text.contains("secret"), "{text}");
    }
    for (body, status) in [
        ("{}", 422),
        ("", 422),
        (r#"{"video_reference": []}"#, 500),
        (r#"{"video_reference": ["a", "b"]}"#, 400),
        (r#"{"video_reference": "x", "video_source_properties": {"nonsense": 1}}"#, 400),
        (r#"{"video_reference": "x", "privacy_masks": 5}"#, 422),
    ] {
        let reply = look(body);
        assert_eq!(reply.status, status, "{body}: {}", reply.text());
    }
    assert!(weir.list().is_empty());
    wait_for("the end of the last worker", || weir.workers().is_empty().then_some(()));
}
