//! `GET /metrics`: every figure, in Prometheus' text form or in OpenMetrics, as the client prefers.

use std::fmt::{Display, Write};

use hyper::{HeaderMap, StatusCode, header};

use crate::clock::process_cpu_time;
use crate::command::{
    Command, Execute, Figures, Histogram, PacketLoss, PipelineId, Reply, Report, SourceFigures, SourceState,
};
use crate::proto::access_control::AccessControl;
use crate::proto::http::inventory::resident_bytes;
use crate::proto::http::respond::{self, HttpReply};
use crate::sink::Queue;
use crate::sink::outbox::Link;

/// A client that names this type gets it: Prometheus does since 2.5.
const OPEN_METRICS: &str = "application/openmetrics-text";

/// The C library it was built with: a static binary has musl's.
const LIBC: &str = if cfg!(target_env = "musl") { "musl" } else { "gnu" };

/// One figure of a pipeline or source, its family's name and help.
type Counter<T> = (&'static str, &'static str, fn(&T) -> u64);

/// One histogram of a source, its family's name and help.
type Measure = (&'static str, &'static str, fn(&SourceFigures) -> &Histogram);

/// What a pipeline counts.
const OF_PIPELINE: [Counter<Figures>; 4] = [
    ("weir_pipeline_datagrams_total", "Datagrams handed to the kernel.", |figures| figures.datagrams_sent),
    ("weir_pipeline_datagrams_failed_total", "Datagrams that could not be sent.", |figures| {
        figures.datagrams_failed
    }),
    (
        "weir_pipeline_datagrams_refused_total",
        "Times that the receiver's machine said that nobody listens on the port.",
        |figures| figures.datagrams_refused,
    ),
    (
        "weir_pipeline_detections_omitted_total",
        "Detections of lowest confidence that did not fit into their datagram.",
        |figures| figures.omitted_detections,
    ),
];

/// A metric of what waits for a receiver: name, type, meaning, and how it is read.
type OfSink = (&'static str, &'static str, &'static str, fn(&Queue) -> u64);

/// What is told of sinks whose messages may wait. All that publish to one receiver share its figures.
const OF_SINK: [OfSink; 5] = [
    ("weir_sink_up", "gauge", "1 while the receiver takes messages, else 0.", |queue| {
        u64::from(queue.link == Link::Up)
    }),
    ("weir_sink_messages_delivered_total", "counter", "Messages that the receiver has.", |queue| {
        queue.figures.delivered
    }),
    (
        "weir_sink_messages_dropped_total",
        "counter",
        "Messages thrown away: too many waited, or the receiver refused them.",
        |queue| queue.figures.dropped,
    ),
    ("weir_sink_messages_waiting", "gauge", "Messages that wait for the receiver.", |queue| {
        queue.figures.waiting
    }),
    ("weir_sink_waiting_bytes", "gauge", "Bytes of them in memory and on the disk.", |queue| {
        queue.figures.memory_bytes + queue.figures.disk_bytes
    }),
];

/// What a source counts.
const OF_SOURCE: [Counter<SourceFigures>; 7] = [
    ("weir_source_workers_started_total", "Connections of a source, and attempts at one.", |figures| {
        figures.workers
    }),
    ("weir_source_frames_total", "Frames a source delivered, or would have but for max_fps.", |figures| {
        figures.frames
    }),
    (
        "weir_source_frames_without_slot_total",
        "Frames thrown away because none before them was done yet.",
        |figures| figures.frames_without_slot,
    ),
    (
        "weir_source_frames_superseded_total",
        "Delivered frames thrown away for a newer one, on mute or on loss.",
        |figures| figures.frames_superseded,
    ),
    (
        "weir_source_frames_early_total",
        "Frames thrown away because of max_fps, most of them before they are decoded.",
        |figures| figures.frames_early,
    ),
    ("weir_source_pictures_total", "Pictures made for clients that look.", |figures| figures.pictures),
    ("weir_source_frames_undecodable_total", "Frames that could not be decoded.", |figures| {
        figures.frames_undecodable
    }),
];

/// What a source measures.
const HISTOGRAMS: [Measure; 2] = [
    (
        "weir_source_frame_latency_seconds",
        "From a frame's arrival (of a file: from its decoding) until its datagram was sent.",
        |figures| &figures.latency,
    ),
    ("weir_source_inference_seconds", "Pre-processing, model and post-processing of a frame.", |figures| {
        &figures.inference
    }),
];

/// Answers with all figures.
pub(super) async fn answer<E: Execute>(
    commands: &E,
    access_control: &AccessControl,
    headers: &HeaderMap,
) -> HttpReply {
    let mut reports = Vec::new();
    if let Ok(Reply::Pipelines(ids)) = commands.execute(Command::List).await {
        for id in ids {
            // One that ended between the two questions is left out.
            if let Ok(Reply::Report(report)) = commands.execute(Command::Status(id)).await {
                reports.push((id, report));
            }
        }
    }
    let accepted = headers.get(header::ACCEPT).and_then(|accepted| accepted.to_str().ok());
    let mut page = Page {
        text: String::with_capacity(16 << 10),
        open: accepted.is_some_and(|types| types.contains(OPEN_METRICS)),
    };
    page.process(access_control);
    page.listeners(access_control);
    page.pipelines(&reports);
    page.sources(&reports);
    page.finish()
}

/// The text, family by family. Writing to a String cannot fail, hence the ignored results.
struct Page {
    text: String,
    /// OpenMetrics: counters are named without `_total` where they are declared, and the text has an end.
    open: bool,
}

impl Page {
    fn finish(mut self) -> HttpReply {
        let content_type = if self.open {
            self.text.push_str("# EOF\n");
            "application/openmetrics-text; version=1.0.0; charset=utf-8"
        } else {
            "text/plain; version=0.0.4; charset=utf-8"
        };
        respond::body(StatusCode::OK, content_type, self.text)
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let declared = if self.open { name.strip_suffix("_total").unwrap_or(name) } else { name };
        let _ = writeln!(self.text, "# HELP {declared} {help}\n# TYPE {declared} {kind}");
    }

    /// Labels must need no escape: ids, states and numbers.
    fn sample(&mut self, name: &str, labels: impl Display, value: f64) {
        let _ = writeln!(self.text, "{name}{{{labels}}} {value}");
    }

    /// A family of one sample.
    fn single(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.family(name, kind, help);
        let _ = writeln!(self.text, "{name} {value}");
    }

    fn process(&mut self, access_control: &AccessControl) {
        self.family("weir_build_info", "gauge", "What runs; always 1.");
        let labels = format_args!(
            "version=\"{}\",arch=\"{}\",libc=\"{LIBC}\",tensorrt=\"{}\",built=\"{}\"",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::ARCH,
            cfg!(feature = "tensorrt"),
            crate::clock::build_date(),
        );
        self.sample("weir_build_info", labels, 1.0);
        let began = access_control.opened.micros() as f64 / 1e6;
        self.single(
            "process_start_time_seconds",
            "gauge",
            "When the process began, seconds since the Unix epoch.",
            began,
        );
        let cpu = process_cpu_time().as_secs_f64();
        self.single(
            "process_cpu_seconds_total",
            "counter",
            "CPU time of the service without its capture workers.",
            cpu,
        );
        if let Some(bytes) = resident_bytes() {
            let help = "Resident memory of the service without its capture workers.";
            self.single("process_resident_memory_bytes", "gauge", help, bytes);
        }
        if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
            self.single("process_open_fds", "gauge", "Open file descriptors.", entries.count() as f64);
        }
    }

    fn listeners(&mut self, access_control: &AccessControl) {
        self.family("weir_requests_total", "counter", "Requests answered, by listener and outcome.");
        for (labels, count) in access_control.counted() {
            self.sample("weir_requests_total", labels, count as f64);
        }
        self.family("weir_access_refused_total", "counter", "Requests that were not let in, by reason.");
        for (reason, count) in access_control.access.refused() {
            self.sample("weir_access_refused_total", format_args!("reason=\"{reason}\""), count as f64);
        }
    }

    fn pipelines(&mut self, reports: &[(PipelineId, Box<Report>)]) {
        self.single("weir_pipelines", "gauge", "Pipelines in the table.", reports.len() as f64);
        let help = "Frames a pipeline infers in a second, all its sources together.";
        self.family("weir_pipeline_frames_per_second", "gauge", help);
        for (id, report) in reports {
            let labels = format_args!("pipeline=\"{id}\"");
            self.sample("weir_pipeline_frames_per_second", labels, report.inference_throughput);
        }
        for (name, help, count) in OF_PIPELINE {
            self.family(name, "counter", help);
            for (id, report) in reports {
                self.sample(name, format_args!("pipeline=\"{id}\""), count(&report.figures) as f64);
            }
        }
        for (name, kind, help, figure) in OF_SINK {
            self.family(name, kind, help);
            for (id, index, queue) in each(reports, |report| &report.figures.queues) {
                let labels = format_args!("pipeline=\"{id}\",sink=\"{index}\",type=\"{}\"", queue.kind);
                self.sample(name, labels, figure(queue) as f64);
            }
        }
    }

    fn sources(&mut self, reports: &[(PipelineId, Box<Report>)]) {
        self.family(
            "weir_source_up",
            "gauge",
            "1 while frames of a source are read (running or muted), else 0.",
        );
        for (id, index, source) in each(reports, |report| &report.sources) {
            let up = matches!(source.state, SourceState::Running | SourceState::Muted);
            self.sample(
                "weir_source_up",
                format_args!("pipeline=\"{id}\",source=\"{index}\""),
                f64::from(u8::from(up)),
            );
        }
        self.family("weir_source_state", "gauge", "1 for the state that a source is in, 0 for the others.");
        for (id, index, source) in each(reports, |report| &report.sources) {
            for state in SourceState::ALL {
                let labels =
                    format_args!("pipeline=\"{id}\",source=\"{index}\",state=\"{}\"", state.as_str());
                self.sample("weir_source_state", labels, f64::from(u8::from(source.state == state)));
            }
        }
        let help = "1 when no frame will come any more: a file is over, or was given up.";
        self.family("weir_source_finished", "gauge", help);
        for (id, index, figures) in each(reports, |report| &report.figures.sources) {
            let labels = format_args!("pipeline=\"{id}\",source=\"{index}\"");
            self.sample("weir_source_finished", labels, f64::from(u8::from(figures.finished)));
        }
        self.family(
            "weir_source_latency_seconds",
            "gauge",
            "Mean over the last 64 inferences, by how far the frame has come.",
        );
        for (id, index, latency) in each(reports, |report| &report.latencies) {
            let stages = [
                ("decoding", latency.frame_decoding),
                ("inference", latency.inference),
                ("end_to_end", latency.end_to_end),
            ];
            for (stage, seconds) in stages.into_iter().filter_map(|(stage, seconds)| Some((stage, seconds?)))
            {
                let labels = format_args!("pipeline=\"{id}\",source=\"{index}\",stage=\"{stage}\"");
                self.sample("weir_source_latency_seconds", labels, seconds);
            }
        }
        for (name, help, count) in OF_SOURCE {
            self.family(name, "counter", help);
            for (id, index, figures) in each(reports, |report| &report.figures.sources) {
                self.sample(
                    name,
                    format_args!("pipeline=\"{id}\",source=\"{index}\""),
                    count(figures) as f64,
                );
            }
        }
        let name = "weir_source_packets_unused_total";
        self.family(
            name,
            "counter",
            "Packets of an RTSP camera that never came, or came and could not be used, by cause.",
        );
        for (id, index, figures) in each(reports, |report| &report.figures.sources) {
            for cause in PacketLoss::ALL {
                let labels = format_args!("pipeline=\"{id}\",source=\"{index}\",cause=\"{}\"", cause.label());
                self.sample(name, labels, figures.packets.get(cause) as f64);
            }
        }
        for (name, help, histogram) in HISTOGRAMS {
            self.family(name, "histogram", help);
            for (id, index, figures) in each(reports, |report| &report.figures.sources) {
                self.histogram(
                    name,
                    format_args!("pipeline=\"{id}\",source=\"{index}\""),
                    histogram(figures),
                );
            }
        }
    }

    fn histogram(&mut self, name: &str, labels: impl Display, histogram: &Histogram) {
        for (bound, count) in histogram.cumulative() {
            // `{:?}` writes 1.0, not 1: OpenMetrics wants a float there.
            let _ = writeln!(self.text, "{name}_bucket{{{labels},le=\"{bound:?}\"}} {count}");
        }
        let _ = writeln!(self.text, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", histogram.count());
        let _ = writeln!(self.text, "{name}_sum{{{labels}}} {}", histogram.sum_s());
        let _ = writeln!(self.text, "{name}_count{{{labels}}} {}", histogram.count());
    }
}

/// Every source's part of the reports, with its pipeline and index.
fn each<'a, T: 'a>(
    reports: &'a [(PipelineId, Box<Report>)],
    part: impl Fn(&'a Report) -> &'a Vec<T>,
) -> impl Iterator<Item = (PipelineId, usize, &'a T)> {
    reports
        .iter()
        .flat_map(move |(id, report)| part(report).iter().enumerate().map(|(index, item)| (*id, index, item)))
}
