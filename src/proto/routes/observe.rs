//! What machines that watch this one ask for: is it alive, is it ready, and its figures in Prometheus' text form.

use std::fmt::Write;

use hyper::StatusCode;

use crate::clock::process_cpu_time;
use crate::command::{Command, Execute, PipelineId, Reply, Report, SourceState};
use crate::proto::gate::Gate;
use crate::proto::respond::{self, HttpReply};

/// Prometheus' text exposition format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `GET /healthz`: the event loop turns.
pub(super) fn health() -> HttpReply {
    respond::body(StatusCode::OK, "text/plain; charset=utf-8", "ok\n")
}

/// `GET /readyz`: commands are carried out.
pub(super) async fn readiness<E: Execute>(commands: &E, gate: &Gate) -> HttpReply {
    match gate.execute(commands, Command::List).await {
        Ok(_) => respond::body(StatusCode::OK, "text/plain; charset=utf-8", "ready\n"),
        Err(_) => respond::body(StatusCode::SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", "not ready\n"),
    }
}

/// `GET /metrics`
pub(super) async fn metrics<E: Execute>(commands: &E, gate: &Gate) -> HttpReply {
    let mut reports = Vec::new();
    if let Ok(Reply::Pipelines(ids)) = commands.execute(Command::List).await {
        for id in ids {
            // One that ended between the two questions is left out.
            if let Ok(Reply::Report(report)) = commands.execute(Command::Status(id)).await {
                reports.push((id, report));
            }
        }
    }
    let mut page = Page(String::with_capacity(4096));
    page.process(gate);
    page.doors(gate);
    page.pipelines(&reports);
    respond::body(StatusCode::OK, TEXT_FORMAT, page.0)
}

/// The text, family by family. Writing to a String cannot fail, hence the ignored results.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Labels must need no escape: ids, states and numbers.
    fn sample(&mut self, name: &str, labels: &str, value: f64) {
        let _ =
            if labels.is_empty() { writeln!(self.0, "{name} {value}") } else { writeln!(self.0, "{name}{{{labels}}} {value}") };
    }

    fn process(&mut self, gate: &Gate) {
        self.family("weir_build_info", "gauge", "The version that runs; always 1.");
        self.sample("weir_build_info", concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""), 1.0);
        self.family("process_start_time_seconds", "gauge", "When the process began, seconds since the Unix epoch.");
        self.sample("process_start_time_seconds", "", gate.opened.micros() as f64 / 1e6);
        self.family("process_cpu_seconds_total", "counter", "CPU time of the service without its capture workers.");
        self.sample("process_cpu_seconds_total", "", process_cpu_time().as_secs_f64());
        if let Some(bytes) = resident_bytes() {
            self.family("process_resident_memory_bytes", "gauge", "Resident memory of the service without its capture workers.");
            self.sample("process_resident_memory_bytes", "", bytes);
        }
        if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
            self.family("process_open_fds", "gauge", "Open file descriptors.");
            self.sample("process_open_fds", "", entries.count() as f64);
        }
    }

    fn doors(&mut self, gate: &Gate) {
        self.family("weir_requests_total", "counter", "Requests answered, by door and outcome.");
        for (labels, count) in gate.counted() {
            self.sample("weir_requests_total", labels, count as f64);
        }
    }

    fn pipelines(&mut self, reports: &[(PipelineId, Box<Report>)]) {
        self.family("weir_pipelines", "gauge", "Pipelines in the table.");
        self.sample("weir_pipelines", "", reports.len() as f64);
        self.family(
            "weir_pipeline_frames_per_second",
            "gauge",
            "Frames a pipeline infers in a second, all its sources together.",
        );
        for (id, report) in reports {
            self.sample("weir_pipeline_frames_per_second", &format!("pipeline=\"{id}\""), report.inference_throughput);
        }
        self.family("weir_source_up", "gauge", "1 while frames of a source are read (running or muted), else 0.");
        for (id, report) in reports {
            for (index, source) in report.sources.iter().enumerate() {
                let up = matches!(source.state, SourceState::Running | SourceState::Muted);
                let labels = format!("pipeline=\"{id}\",source=\"{index}\",state=\"{}\"", source.state.as_str());
                self.sample("weir_source_up", &labels, f64::from(u8::from(up)));
            }
        }
        self.family("weir_source_latency_seconds", "gauge", "Mean over the last 64 inferences, by how far the frame has come.");
        for (id, report) in reports {
            for (index, latency) in report.latencies.iter().enumerate() {
                let stages =
                    [("decoding", latency.frame_decoding), ("inference", latency.inference), ("end_to_end", latency.end_to_end)];
                for (stage, seconds) in stages.into_iter().filter_map(|(stage, seconds)| Some((stage, seconds?))) {
                    let labels = format!("pipeline=\"{id}\",source=\"{index}\",stage=\"{stage}\"");
                    self.sample("weir_source_latency_seconds", &labels, seconds);
                }
            }
        }
    }
}

/// Second field of `/proc/self/statm`, in pages.
fn resident_bytes() -> Option<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as f64)
}
