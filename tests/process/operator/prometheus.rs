//! `packaging/prometheus` with the real Prometheus of Debian: a camera that is dark fires an alert, the
//! dashboard's queries find what they name.

use crate::support::{Folder, Json, Weir, clip, http, request, root, udp, wait_for};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// How long a camera is dark here before it fires, in place of the minute, which `promtool` goes through on
/// simulated time.
const DARK: &str = "for: 2s";

fn programs() -> PathBuf {
    let output =
        Command::new(root().join("scripts/prometheus.sh")).output().expect("scripts/prometheus.sh runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

fn packaged(name: &str) -> PathBuf {
    root().join("packaging/prometheus").join(name)
}

/// A Prometheus of its own; killed when dropped.
struct Prometheus {
    child: Child,
    address: SocketAddr,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    fn start(configuration: &Path, data: &Path) -> Prometheus {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new(programs().join("prometheus"))
            .arg(format!("--config.file={}", configuration.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus starts");
        wait_for("Prometheus to be ready", || {
            std::net::TcpStream::connect(address).ok()?;
            (http::request(address, "GET", "/-/ready", &[], b"").status == 200).then_some(())
        });
        Prometheus { child, address }
    }

    fn ask(&self, path: &str) -> Json {
        let response = http::request(self.address, "GET", path, &[], b"");
        assert_eq!(response.status, 200, "{path}: {}", response.body);
        response.json()
    }

    /// The samples that a query finds now.
    fn query(&self, expression: &str) -> Vec<Json> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        self.ask(&format!("/api/v1/query?query={encoded}")).at("data/result").items().to_vec()
    }
}

#[test]
fn the_rules_hold_on_simulated_time() {
    for arguments in [
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts.test.yml"],
        ["check", "config", "scrape.yml"],
    ] {
        let mut tool = Command::new(programs().join("promtool"));
        if arguments[2] == "scrape.yml" {
            // Files that it names are not here.
            tool.args(["check", "config", "--syntax-only"]).arg("scrape.yml");
        } else {
            tool.args(arguments);
        }
        let output = tool.current_dir(packaged("")).output().expect("promtool runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_dark_camera_fires_and_the_dashboard_finds_its_figures() {
    let weir = Weir::start_with(|command| {
        command.env("WEIR_TOKEN", TOKEN);
    });
    let sink = udp::Receiver::new();
    let token = format!(r#", "auth_token": "{TOKEN}""#);
    let init =
        |video: &str| weir.init(&request::init(&weir.toy(), &request::quoted(video), sink.port(), &token));
    // Nobody listens on port 9.
    let dark = init("rtsp://127.0.0.1:9/cam");
    let over = init(&clip("short.mp4"));
    let bright = init(&format!("file://{}", clip("long.mp4")));

    let folder = Folder::new();
    let at = |name: &str| folder.path().join(name);
    let rules = std::fs::read_to_string(packaged("alerts.yml")).unwrap();
    assert!(rules.contains("for: 1m"));
    std::fs::write(at("alerts.yml"), rules.replace("for: 1m", DARK)).unwrap();
    std::fs::write(at("token"), TOKEN).unwrap();
    let scrape = std::fs::read_to_string(packaged("scrape.yml")).unwrap();
    let scrape = scrape
        .replace("weir.example:8080", &weir.http.to_string())
        .replace("scrape_interval: 15s", "scrape_interval: 500ms");
    let scrape = scrape.replace("/etc/prometheus/weir/token", at("token").to_str().unwrap());
    std::fs::write(at("prometheus.yml"), format!("global: {{evaluation_interval: 500ms}}\n{scrape}"))
        .unwrap();
    let prometheus = Prometheus::start(&at("prometheus.yml"), &at("data"));

    let alert = wait_for("the alert to fire", || {
        let alerts = prometheus.ask("/api/v1/alerts");
        let mut alerts = alerts.at("data/alerts").items().to_vec();
        alerts.retain(|alert| alert.get("state").text() == Some("firing"));
        alerts.into_iter().find(|alert| alert.at("labels/alertname").text() == Some("WeirCameraDark"))
    });
    assert_eq!(alert.at("labels/pipeline").text(), Some(dark.as_str()), "{alert}");
    let dark_ones = |pipeline: &str| {
        prometheus.query(&format!("ALERTS{{alertname=\"WeirCameraDark\", pipeline=\"{pipeline}\"}}"))
    };
    assert_eq!((dark_ones(&over).len(), dark_ones(&bright).len()), (0, 0));
    // The state changed more than once meanwhile; the series stayed one.
    assert_eq!(
        prometheus.query(&format!("count_over_time(weir_source_up{{pipeline=\"{dark}\"}}[1m])")).len(),
        1
    );

    // Every query of the dashboard is one, and every metric that it or a rule names is there.
    let dashboard = Json::parse(&std::fs::read_to_string(packaged("dashboard.json")).unwrap());
    let mut named = words(&rules);
    let panels = dashboard.get("panels").items();
    assert!(panels.len() > 10);
    for target in panels.iter().flat_map(|panel| panel.get("targets").items()) {
        let expression = target.get("expr").text().unwrap();
        let expression = expression.replace("$instance", ".*").replace("$__rate_interval", "1m");
        // Counted: a long answer would come in chunks.
        prometheus.query(&format!("count({expression})"));
        named.extend(words(&expression));
    }
    assert!(named.len() > 15, "{named:?}");
    for name in named {
        assert!(
            !prometheus.query(&format!("count({name})")).is_empty(),
            "{name} is not among what weir tells"
        );
    }
}

/// The metrics that a text names.
fn words(text: &str) -> std::collections::BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("weir_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}
