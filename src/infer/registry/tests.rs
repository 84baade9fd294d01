//! The registry against a server that plays the Roboflow API.

use super::test_dir::TestDir;
use super::*;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, atomic::AtomicBool, atomic::Ordering};
use std::time::Duration;

/// What the server does with a request: path and query in, status, body, and whether to say the right length.
type Script = dyn Fn(&str) -> Answer + Send + Sync;

struct Answer {
    status: u16,
    body: Vec<u8>,
    /// `Content-Length`; `None`: not sent.
    length: Option<usize>,
    /// The connection stays open and silent.
    hangs: bool,
}

fn ok(body: impl Into<Vec<u8>>) -> Answer {
    let body = body.into();
    Answer { status: 200, length: Some(body.len()), body, hangs: false }
}

fn refused(status: u16) -> Answer {
    Answer { status, ..ok("{}") }
}

/// Paths with queries, and headers, in the order in which they came.
type Record = Mutex<Vec<(String, Vec<String>)>>;

struct Server {
    address: String,
    seen: Arc<Record>,
    stop: Arc<AtomicBool>,
}

impl Server {
    fn start(script: impl Fn(&str, &str) -> Answer + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (seen, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let base = format!("http://{address}");
        let script: Arc<Script> = Arc::new(move |path: &str| script(path, &base));
        let (record, ended) = (seen.clone(), stop.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let (record, script) = (record.clone(), script.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &record, script.as_ref()));
            }
        });
        Server { address, seen, stop }
    }

    fn paths(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|(path, _)| path.clone()).collect()
    }

    fn settings(&self, dir: &TestDir) -> RegistrySettings {
        RegistrySettings {
            cache_dir: dir.path().join("cache"),
            api_base_url: format!("http://{}", self.address),
            device_id: String::from("test device"),
            request_timeout: Duration::from_millis(500),
            retries: 1,
            retry_interval: Duration::from_millis(1),
            ..RegistrySettings::default()
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.address);
    }
}

fn serve(mut stream: TcpStream, record: &Record, script: &Script) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(std::result::Result::ok);
    while let Some(first) = lines.next() {
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let headers: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
        record.lock().unwrap().push((path.clone(), headers));
        let answer = script(&path);
        if answer.hangs {
            // Until the client has had enough.
            let _ = lines.next();
            return;
        }
        let length = answer.length.map(|length| format!("content-length: {length}\r\n")).unwrap_or_default();
        let close = if answer.length == Some(answer.body.len()) { "" } else { "connection: close\r\n" };
        let head = format!("HTTP/1.1 {} X\r\n{length}{close}\r\n", answer.status);
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&answer.body)).is_err()
            || !close.is_empty()
        {
            return;
        }
    }
}

const ENVIRONMENT: &str =
    r#"{"PREPROCESSING": "{\"resize\": {\"format\": \"Stretch to\"}}", "RESOLUTION": 320}"#;

fn weights() -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/assets/toy.onnx")).unwrap()
}

fn ort(base: &str, model_type: &str) -> String {
    format!(
        r##"{{"ort": {{"type": "object-detection", "modelType": "{model_type}", "classes": ["red", "green", "blue"],
            "colors": {{"red": "#f00"}}, "model": "{base}/weights", "environment": "{base}/environment"}}}}"##
    )
}

/// A well-behaved API: key `good-key`, model `toy/1`.
fn good(path: &str, base: &str) -> Answer {
    match path {
        "/weights" => ok(weights()),
        "/environment" => ok(ENVIRONMENT),
        _ if !path.ends_with("&api_key=good-key") => refused(401),
        _ if path.starts_with("/ort/toy/1?") => ok(ort(base, "yolov8n")),
        _ => refused(404),
    }
}

fn get(models: &Models, id: &str, key: Option<&str>) -> Result<Arc<Model>> {
    let key = key.map(Secret::new);
    smol::block_on(models.get(id, key.as_ref(), &|_| ()))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    let inner: Vec<PathBuf> =
        found.iter().filter(|path| path.is_dir()).flat_map(|path| files(path)).collect();
    found.retain(|path| path.is_file() && path.extension() != Some("lock".as_ref()));
    found.extend(inner);
    found.sort();
    found
}

#[test]
fn a_model_is_fetched_once_and_then_needs_neither_key_nor_network() {
    let (dir, server) = (TestDir::new(), Server::start(good));
    let settings = server.settings(&dir);
    let models = Models::new(settings.clone());
    let model = get(&models, "toy/1", Some("good-key")).unwrap();
    assert_eq!((model.id(), model.classes()), ("toy/1", &["red", "green", "blue"].map(String::from)[..]));
    assert_eq!((model.rule().width, model.family_name()), (320, "yolov8"));
    let asked = "/ort/toy/1?nocache=true&device=test%20device&dynamic=true&api_key=good-key";
    assert_eq!(server.paths(), [asked, "/environment", "/weights"]);

    let names: Vec<_> = files(&settings.cache_dir)
        .iter()
        .map(|path| path.strip_prefix(&settings.cache_dir).unwrap().display().to_string())
        .collect();
    assert_eq!(
        names,
        ["toy/1/class_names.txt", "toy/1/environment.json", "toy/1/model_type.json", "toy/1/weights.onnx"]
    );
    let text = |name: &str| std::fs::read_to_string(settings.cache_dir.join("toy/1").join(name)).unwrap();
    assert_eq!(text("class_names.txt"), "red\ngreen\nblue");
    let about = "{\n    \"project_task_type\": \"object-detection\",\n    \"model_type\": \"yolov8n\"\n}";
    assert_eq!(text("model_type.json"), about);
    assert!(text("environment.json").contains("COLORS"));

    drop(server);
    drop(model);
    assert!(get(&models, "toy/1", Some("bad-key")).is_ok());
    assert!(get(&Models::new(RegistrySettings { offline: true, ..settings }), "toy/1", None).is_ok());
}

#[test]
fn refusals_are_told_in_the_words_of_the_reference_and_leave_nothing() {
    let (dir, server) = (TestDir::new(), Server::start(good));
    let models = Models::new(server.settings(&dir));
    let unauthorised = get(&models, "toy/1", Some("bad-key")).unwrap_err();
    assert_eq!(unauthorised.kind(), Kind::ApiUnauthorised);
    assert!(
        unauthorised
            .message()
            .starts_with("Unauthorized access to roboflow API - check API key. Visit https://docs.")
    );
    assert_eq!(get(&models, "toy/1", None).unwrap_err().kind(), Kind::ApiUnauthorised);
    let unknown = get(&models, "nope/7", Some("good-key")).unwrap_err();
    assert_eq!(unknown.kind(), Kind::ApiNotFound);
    assert!(
        unknown
            .message()
            .starts_with("Could not find requested Roboflow resource. Check that the provided dataset")
    );
    assert_eq!(get(&models, "no-slash", Some("good-key")).unwrap_err().kind(), Kind::ApiNotFound);
    let last = server.paths().pop().unwrap();
    assert_eq!(
        last,
        "/getWeights?model=no-slash&nocache=true&device=test%20device&dynamic=true&api_key=good-key"
    );
    assert_eq!(files(dir.path()), [] as [PathBuf; 0]);
}

#[test]
fn what_a_server_can_do_wrong_has_an_error_and_leaves_nothing() {
    let short = || Answer { length: Some(weights().len()), ..ok(&weights()[..1000]) };
    let unsaid = || Answer { length: None, ..ok(weights()) };
    type Case = (&'static str, &'static str, fn() -> Answer, Kind);
    let truncated: fn() -> Answer = short;
    let cases: [Case; 14] = [
        ("error", "/ort", || refused(500), Kind::ApiUnsuccessful),
        ("too many", "/ort", || refused(429), Kind::ApiUnsuccessful),
        ("forbidden", "/ort", || refused(403), Kind::ApiUnsuccessful),
        ("no json", "/ort", || ok("<html>"), Kind::ApiMalformed),
        ("no ort", "/ort", || ok("{}"), Kind::ApiMalformed),
        ("no address", "/ort", || ok(r#"{"ort": {"modelType": "yolov8n"}}"#), Kind::ApiMalformed),
        ("unknown type", "/ort", || ok(ort("x:", "no-such-model-type")), Kind::UnknownModelType),
        ("odd address", "/ort", || ok(ort("file://", "yolov8n")), Kind::ApiMalformed),
        ("no preprocessing", "/environment", || ok("{}"), Kind::ModelArtefact),
        ("html", "/weights", || ok("<html>not found</html>"), Kind::ModelArtefact),
        ("half a model", "/weights", || ok(&weights()[..12_000]), Kind::ModelArtefact),
        ("truncated", "/weights", truncated, Kind::ApiConnection),
        ("no length", "/weights", unsaid, Kind::ApiMalformed),
        ("hangs", "/weights", || Answer { hangs: true, ..ok("") }, Kind::ApiTimeout),
    ];
    for (name, path, answer, kind) in cases {
        let dir = TestDir::new();
        let server = Server::start(
            move |asked, base| if asked.starts_with(path) { answer() } else { good(asked, base) },
        );
        let error = get(&Models::new(server.settings(&dir)), "toy/1", Some("good-key")).unwrap_err();
        assert_eq!(error.kind(), kind, "{name}: {error}");
        assert!(!format!("{error} {error:?}").contains("good-key"), "{name}: {error:?}");
        assert_eq!(files(dir.path()), [] as [PathBuf; 0], "{name}");
    }
}

#[test]
fn error_messages_of_the_api_are_those_of_the_reference() {
    let (dir, server) = (TestDir::new(), Server::start(|_, _| refused(500)));
    let error = get(&Models::new(server.settings(&dir)), "toy/1", None).unwrap_err();
    assert_eq!(error.message(), "Unsuccessful request to Roboflow API with response code: 500");
    let (dir, server) = (TestDir::new(), Server::start(|_, base| ok(ort(base, "no-such-model-type"))));
    let error = get(&Models::new(server.settings(&dir)), "toy/1", None).unwrap_err();
    assert_eq!(error.message(), "('object-detection', 'no-such-model-type')");
}

#[test]
fn transient_errors_are_tried_again_and_lasting_ones_are_not() {
    let dir = TestDir::new();
    let failed = AtomicBool::new(false);
    let server = Server::start(move |path, base| {
        let first = path == "/weights" && !failed.swap(true, Ordering::SeqCst);
        if first { refused(503) } else { good(path, base) }
    });
    get(&Models::new(server.settings(&dir)), "toy/1", Some("good-key")).unwrap();
    assert_eq!(server.paths().iter().filter(|path| *path == "/weights").count(), 2);

    let (dir, server) = (TestDir::new(), Server::start(|_, _| refused(500)));
    get(&Models::new(server.settings(&dir)), "toy/1", Some("good-key")).unwrap_err();
    assert_eq!(server.paths().len(), 1);
    let (dir, server) = (TestDir::new(), Server::start(|_, _| refused(503)));
    get(&Models::new(server.settings(&dir)), "toy/1", Some("good-key")).unwrap_err();
    assert_eq!(server.paths().len(), 2);
}

#[test]
fn nobody_at_the_address_is_a_connection_error() {
    let dir = TestDir::new();
    let settings = Server::start(good).settings(&dir);
    // The server has gone, its port is closed.
    let error = get(&Models::new(settings.clone()), "toy/1", None).unwrap_err();
    assert_eq!(error.kind(), Kind::ApiConnection);
    let error = get(&Models::new(RegistrySettings { offline: true, ..settings }), "toy/1", None).unwrap_err();
    assert_eq!(error.kind(), Kind::ApiConnection);
}

#[test]
fn a_licence_server_stands_in_for_every_address() {
    let dir = TestDir::new();
    let server = Server::start(|path, _| match path {
        _ if path.contains("%2Fort%2Ftoy%2F1%3Fnocache%3Dtrue") => ok(ort("http://files", "yolov8n")),
        "/proxy?url=http%3A%2F%2Ffiles%2Fenvironment" => ok(ENVIRONMENT),
        "/proxy?url=http%3A%2F%2Ffiles%2Fweights" => ok(weights()),
        _ => refused(404),
    });
    let extra_headers = vec![(String::from("x-tenant"), Secret::new("one"))];
    let settings = RegistrySettings {
        license_server: Some(server.address.clone()),
        extra_headers,
        ..server.settings(&dir)
    };
    let settings = RegistrySettings { api_base_url: String::from("https://api.example"), ..settings };
    get(&Models::new(settings.clone()), "toy/1", Some("good-key")).unwrap();
    // With a scheme it is spoken to as it says: this one does not speak TLS.
    let (elsewhere, address) = (TestDir::new(), format!("https://{}/", server.address));
    let secure = RegistrySettings {
        license_server: Some(address),
        cache_dir: elsewhere.path().to_owned(),
        ..settings
    };
    let error = get(&Models::new(secure), "toy/1", Some("good-key")).unwrap_err();
    assert!(error.message().contains("TLS") || error.kind() == Kind::ApiConnection, "{error}");
    let seen = server.seen.lock().unwrap();
    let tenants: Vec<bool> =
        seen.iter().map(|(_, headers)| headers.iter().any(|line| line == "x-tenant: one")).collect();
    assert_eq!(tenants, [true, false, false]);
}

#[test]
fn pipelines_share_one_load_and_one_model_until_the_last_is_gone() {
    let (dir, server) = (TestDir::new(), Server::start(good));
    let models = Models::new(server.settings(&dir));
    let key = Secret::new("good-key");
    let stages = RefCell::new(Vec::new());
    let note = |progress: Progress| stages.borrow_mut().push(progress.stage);
    let (first, second) = smol::block_on(futures_lite::future::zip(
        models.get("toy/1", Some(&key), &note),
        models.get("toy/1", Some(&key), &|_| ()),
    ));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert!(Arc::ptr_eq(&first, &second));
    assert!(Arc::ptr_eq(&first, &get(&models, "toy/1", None).unwrap()));
    assert_eq!(server.paths().len(), 3);
    // Who waits sees the latest stage; one that passes between two looks is not seen, but none comes twice or
    // out of order.
    let stages = stages.into_inner();
    assert_eq!(stages.first(), Some(&Stage::Resolving));
    assert!(stages.is_sorted_by_key(|stage| *stage as u8), "{stages:?}");
    assert_eq!(models.loaded().len(), 1);
    let weak = Arc::downgrade(&first);
    drop((first, second));
    assert_eq!(weak.strong_count(), 0);
    assert_eq!(models.loaded().len(), 0);
}

#[test]
fn a_model_on_this_machine_is_loaded_once_by_whatever_path_it_is_named() {
    let dir = TestDir::new();
    let folder = dir.path().join("models");
    std::fs::create_dir_all(folder.join("toy")).unwrap();
    for (name, bytes) in [
        ("weights.onnx", weights()),
        ("environment.json", ENVIRONMENT.into()),
        ("class_names.txt", "red\ngreen\nblue".into()),
        ("model_type.json", r#"{"project_task_type": "object-detection", "model_type": "yolov8n"}"#.into()),
    ] {
        std::fs::write(folder.join("toy").join(name), bytes).unwrap();
    }
    std::fs::write(folder.join("lone.onnx"), weights()).unwrap();
    std::os::unix::fs::symlink("toy", folder.join("link.onnx")).unwrap();
    let models = Models::new(RegistrySettings {
        cache_dir: dir.path().join("cache"),
        models_dirs: vec![folder.clone()],
        ..RegistrySettings::default()
    });
    let named = |path: &Path| path.display().to_string();
    let first = get(&models, &named(&folder.join("toy")), None).unwrap();
    for path in [
        folder.join("./toy/"),
        folder.join("toy/../toy"),
        folder.join("link.onnx"),
        PathBuf::from("link.onnx"),
    ] {
        let again = get(&models, &named(&path), None).unwrap();
        assert!(Arc::ptr_eq(&first, &again), "{}", path.display());
    }
    assert_eq!(models.loaded().len(), 1);
    // What is not there is told by the name that was asked for.
    let missing = get(&models, "toy/./none.onnx", None).unwrap_err();
    assert!(missing.message().contains("toy/./none.onnx"), "{missing}");
    // A link that leads elsewhere by now is another model.
    std::fs::remove_file(folder.join("link.onnx")).unwrap();
    std::os::unix::fs::symlink(folder.join("lone.onnx"), folder.join("link.onnx")).unwrap();
    let other = get(&models, "link.onnx", None);
    assert!(other.is_err() || !Arc::ptr_eq(&first, &other.unwrap()));
}

#[test]
fn somebody_elses_bad_key_does_not_spoil_the_load() {
    let (dir, server) = (TestDir::new(), Server::start(good));
    let models = Models::new(server.settings(&dir));
    let (good, bad) = (Secret::new("good-key"), Secret::new("bad-key"));
    let (refused, loaded) = smol::block_on(futures_lite::future::zip(
        models.get("toy/1", Some(&bad), &|_| ()),
        models.get("toy/1", Some(&good), &|_| ()),
    ));
    assert_eq!(refused.unwrap_err().kind(), Kind::ApiUnauthorised);
    assert!(loaded.is_ok());
}

#[test]
fn a_client_that_goes_away_leaves_nothing_half_done() {
    let dir = TestDir::new();
    let (asked, waits) = async_channel::unbounded();
    let server = Server::start(move |path, base| {
        if path == "/weights" {
            asked.send_blocking(()).unwrap();
            return Answer { length: Some(weights().len()), ..ok(&weights()[..1000]) };
        }
        good(path, base)
    });
    // So many attempts that only giving up ends them.
    let settings = RegistrySettings { retries: u32::MAX, ..server.settings(&dir) };
    let models = Models::new(settings);
    let key = Secret::new("good-key");
    let loading = async { models.get("toy/1", Some(&key), &|_| ()).await.map(|_| ()) };
    let leaving = async { waits.recv().await.map_err(|_| crate::error::Error::new(Kind::Worker, "")) };
    smol::block_on(futures_lite::future::or(loading, leaving)).unwrap();
    // The place is given back when the thread has ended: then everything is cleared away.
    smol::block_on(models.idle());
    assert_eq!(files(dir.path()), [] as [PathBuf; 0]);
}

#[test]
fn an_interrupted_fetch_of_another_process_is_cleared_and_done_again() {
    let (dir, server) = (TestDir::new(), Server::start(good));
    let settings = server.settings(&dir);
    for folder in ["toy/.1.partial", "toy/1"] {
        let folder = settings.cache_dir.join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("weights.onnx"), "half").unwrap();
    }
    get(&Models::new(settings.clone()), "toy/1", Some("good-key")).unwrap();
    // Who wrote half a file into the model's own folder is not known: it is set aside.
    let kept = settings.cache_dir.join("toy/1/weights.onnx.1.kept");
    assert_eq!(std::fs::read_to_string(kept).unwrap(), "half");
    assert_eq!(files(&settings.cache_dir).len(), 5);
}

#[test]
fn nothing_that_weir_did_not_write_is_removed() {
    let (dir, server) = (TestDir::new(), Server::start(good));
    let settings = server.settings(&dir);
    let folder = settings.cache_dir.join("toy/1");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("weights.onnx"), weights()).unwrap();
    std::fs::write(folder.join("environment.json"), ENVIRONMENT).unwrap();
    std::fs::write(folder.join("model_type.json"), r#"{"model_type": "yolov8n"}"#).unwrap();
    std::fs::write(folder.join("class_names.txt"), "red\ngreen\nblue\nextra").unwrap();
    std::fs::write(folder.join("my-notes.txt"), "notes").unwrap();
    for _ in 0..2 {
        let error = get(&Models::new(settings.clone()), "toy/1", Some("good-key")).unwrap_err();
        assert_eq!(error.kind(), Kind::ModelArtefact);
        assert!(
            error.message().contains("3 classes") && error.message().contains("left as it is"),
            "{error}"
        );
        assert_eq!(files(&folder).len(), 5);
    }
    assert_eq!(server.paths(), [] as [String; 0]);
}

#[test]
fn a_download_that_went_bad_is_replaced_by_one_that_loads() {
    let (dir, server) = (TestDir::new(), Server::start(good));
    let settings = server.settings(&dir);
    let folder = settings.cache_dir.join("toy/1");
    get(&Models::new(settings.clone()), "toy/1", Some("good-key")).unwrap();
    // What somebody changed since is theirs.
    std::fs::write(folder.join("class_names.txt"), "red\ngreen").unwrap();
    let error = get(&Models::new(settings.clone()), "toy/1", Some("good-key")).unwrap_err();
    assert!(error.message().contains("left as it is"), "{error}");
    assert_eq!(std::fs::read_to_string(folder.join("class_names.txt")).unwrap(), "red\ngreen");
    std::fs::write(folder.join("notes"), "mine").unwrap();
    std::fs::remove_file(folder.join("class_names.txt")).unwrap();
    std::fs::write(folder.join("class_names.txt"), "red\ngreen\nblue").unwrap();
    assert!(get(&Models::new(settings.clone()), "toy/1", Some("good-key")).is_ok());
    assert_eq!(files(&folder).len(), 5);
}

#[test]
fn a_download_that_cannot_be_loaded_goes_and_leaves_what_else_is_there() {
    let bad = |path: &str, base: &str| if path == "/weights" { ok("no model") } else { good(path, base) };
    let (dir, server) = (TestDir::new(), Server::start(bad));
    let settings = server.settings(&dir);
    let folder = settings.cache_dir.join("toy/1");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("notes"), "mine").unwrap();
    let error = get(&Models::new(settings.clone()), "toy/1", Some("good-key")).unwrap_err();
    assert_eq!(error.kind(), Kind::ModelArtefact, "{error}");
    assert_eq!(files(&settings.cache_dir), [folder.join("notes")]);
}
