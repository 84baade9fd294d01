//! The one description of the command line: `--help`, the man page and the completions of the shells are made
//! of it, and a test holds what the parsers take against it.

pub(super) mod complete;
pub(super) mod help;
pub(super) mod page;

/// What an option or argument names, for completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// Nothing that a shell could know.
    Something,
    /// A file or folder.
    File,
    /// One of these words.
    OneOf(&'static [&'static str]),
}

/// An option of the command line: `--NAME VALUE`.
#[derive(Debug)]
pub(super) struct Opt {
    /// Its name without the hyphens.
    pub(super) name: &'static str,
    pub(super) short: Option<char>,
    /// What stands for its value; `None`: it has none.
    pub(super) value: Option<(&'static str, Names)>,
    pub(super) help: &'static str,
}

/// A command, or one of its kinds.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) name: &'static str,
    /// Arguments without a name, as the synopsis shows them.
    pub(super) arguments: &'static str,
    /// What its first argument names.
    pub(super) names: Names,
    pub(super) summary: &'static str,
    /// More about it; lines of the man page.
    pub(super) details: &'static str,
    pub(super) options: &'static [&'static [Opt]],
    pub(super) kinds: &'static [Command],
}

const fn flag(name: &'static str, help: &'static str) -> Opt {
    Opt { name, short: None, value: None, help }
}

const fn valued(name: &'static str, value: &'static str, names: Names, help: &'static str) -> Opt {
    Opt { name, short: None, value: Some((value, names)), help }
}

use Names::{File, OneOf, Something};

const GENERAL: &[Opt] =
    &[Opt { name: "help", short: Some('h'), value: None, help: "what there is to say, then nothing else" }];

const VERSION: &[Opt] =
    &[Opt { name: "version", short: Some('V'), value: None, help: "the version, then nothing else" }];

const LEVELS: Names = OneOf(&["error", "warning", "info", "debug", "trace", "off"]);

const SERVICE: &[Opt] = &[
    valued("config", "FILE", File, "configuration (default /etc/weir/weir.toml where it exists)"),
    valued("tcp", "HOST:PORT", Something, "listen here (default 127.0.0.1:7070; port 0 takes a free one)"),
    valued("http", "HOST:PORT", Something, "listen here (default 127.0.0.1:8080)"),
    valued("ports-file", "FILE", File, "write both addresses there as JSON once they listen"),
    flag("insecure", "listen beyond loopback without any token"),
    valued("log-level", "LEVEL", LEVELS, "how much is logged (default warning)"),
];

const CHECK: &[Opt] = &[
    valued("video", "FILE", File, "decode it too, and compare what other precisions find on it"),
    valued(
        "fps",
        "N",
        Something,
        "say how many cameras of N frames a second this machine carries (default 15)",
    ),
];

const CONNECTION: &[Opt] = &[
    valued(
        "addr",
        "ADDRESS",
        Something,
        "HOST:PORT, or unix:PATH (default WEIR_ADDR, else STREAM_MANAGER_HOST and _PORT, else 127.0.0.1:7070)",
    ),
    valued(
        "token-file",
        "FILE",
        File,
        "a token, alone or in the format of access.tokens_file (default WEIR_TOKEN_FILE, else WEIR_TOKEN)",
    ),
    flag("tls", "speak TLS; so do the three that follow"),
    valued(
        "cacert",
        "FILE",
        File,
        "whose certificates to trust, PEM: a CA's, or the server's own (default WEIR_CACERT, else the system's)",
    ),
    valued("cert", "FILE", File, "the client's certificate, PEM (default WEIR_CERT)"),
    valued("key", "FILE", File, "its private key, PEM (default WEIR_KEY)"),
];

const INIT: &[Opt] = &[
    valued("model", "ID", File, "dataset/version, an alias, or a path below models.dirs"),
    valued(
        "video",
        "REFERENCE",
        File,
        "rtsp://…, http://…, a file, or the number of a V4L2 device; several make one pipeline",
    ),
    valued(
        "sink",
        "RECEIVER",
        Something,
        "where detections go: HOST:PORT for datagrams, mqtt for the service's broker, http://… for lines that are posted; may be repeated",
    ),
    valued("topic", "TOPIC", Something, "of the mqtt sink before it (default: one of the pipeline's own)"),
    valued("qos", "QOS", OneOf(&["0", "1"]), "of the mqtt sink before it (default 1)"),
    valued(
        "format",
        "FORMAT",
        OneOf(&["datagram", "compact"]),
        "how the mqtt or http sink before it writes a frame (default datagram)",
    ),
    valued("max-fps", "N", Something, "frames a second at most"),
    valued(
        "filling",
        "STRATEGY",
        OneOf(&["WAIT", "DROP_OLDEST", "ADAPTIVE_DROP_OLDEST", "DROP_LATEST", "ADAPTIVE_DROP_LATEST"]),
        "what happens to a frame when the buffer is full",
    ),
    valued(
        "consumption",
        "STRATEGY",
        OneOf(&["LAZY", "EAGER"]),
        "which frame is taken from the buffer: the next or the newest",
    ),
    valued(
        "privacy-masks",
        "JSON",
        Something,
        "areas that are blackened: a list of polygons, see the reference",
    ),
    valued(
        "batch-collection-timeout",
        "S",
        Something,
        "how long a turn waits for late sources when there are several",
    ),
    valued(
        "class-agnostic-nms",
        "BOOLEAN",
        OneOf(&["true", "false"]),
        "whether a box may suppress boxes of other classes",
    ),
    valued(
        "precision",
        "PRECISION",
        OneOf(&["full", "half", "int8"]),
        "how exactly the CPU computes (default full)",
    ),
    valued("confidence", "SCORE", Something, "lowest score that is reported, 0..1"),
    valued(
        "iou-threshold",
        "SHARE",
        Something,
        "overlap above which the box with the lower score goes, 0..1",
    ),
    valued("max-detections", "N", Something, "most boxes in one frame"),
];

const ADDITION: &[Opt] = &[
    valued("name", "NAME", Something, "name of its folder, and of the model (default: the file's)"),
    valued(
        "names",
        "NAMES",
        File,
        "class names: a file (one a line, JSON or YAML), `coco`, or the names themselves: a,b,c",
    ),
    valued("family", "FAMILY", Something, "how outputs are read, where they do not show it"),
    valued(
        "input",
        "FORM",
        Something,
        "what the input was trained with: rgb or bgr, and 0-1, 0-255, -1-1 or imagenet",
    ),
    flag("decoded", "the boxes are decoded in the graph"),
];

const RECORD: &[Opt] = &[
    valued("seconds", "N", Something, "for how long (default 30; a day at most)"),
    valued("max-mib", "N", Something, "size of the file, at most (default 64)"),
    flag("with-pictures", "keep the pictures too: what is needed to show what the camera shows"),
    valued(
        "config",
        "FILE",
        File,
        "configuration (default /etc/weir/weir.toml where it exists): [capture] and [sources]",
    ),
];

const QUANTISATION: &[Opt] = &[
    valued("video", "FILE", File, "a minute of what the camera sees; may be repeated"),
    valued("pictures", "FOLDER", File, "a folder of JPEG pictures instead, or with it"),
    valued("name", "NAME", Something, "name of its folder (default: the model's with -int8)"),
];

const OWN_MODELS: &[Opt] =
    &[valued("config", "FILE", File, "configuration (default /etc/weir/weir.toml where it exists)")];

const MODELS: &[Command] = &[
    Command {
        name: "add",
        arguments: "FILE",
        names: File,
        summary: "copy a model below models.dirs, in the layout of the cache, once it has been loaded",
        details: "",
        options: &[ADDITION, OWN_MODELS, GENERAL],
        kinds: &[],
    },
    kind("list", "", "the models below models.dirs", &[OWN_MODELS, GENERAL]),
    kind("show", "NAME", "what a model is and costs, as check says it", &[OWN_MODELS, GENERAL]),
    Command {
        name: "quantise",
        arguments: "MODEL",
        names: File,
        summary: "make a model's twin in 8 bits, calibrated on pictures of one's own, and say what it loses",
        details: "",
        options: &[QUANTISATION, OWN_MODELS, GENERAL],
        kinds: &[],
    },
    kind("remove", "NAME", "take one away that models add has put there", &[OWN_MODELS, GENERAL]),
];

const DECODE: &[Opt] = &[
    flag("sums", "print one line per frame as ffmpeg -f framecrc does, to compare"),
    valued(
        "decoder",
        "DECODER",
        OneOf(&["auto", "builtin", "libavcodec", "v4l2"]),
        "who decodes, as capture.decoder says it (default builtin)",
    ),
    valued(
        "decoder-name",
        "NAME",
        Something,
        "a decoder of libavcodec by name, tried first; may be repeated",
    ),
];

const ENGINE: &[Opt] = &[
    valued("model", "FILE", File, "a folder of the cache's layout, or an .onnx file"),
    valued("threads", "N", Something, "inference threads (default: 1 for engine, one per core for pipeline)"),
    valued("runs", "N", Something, "timed runs (default 50)"),
    valued("engine", "ENGINE", OneOf(&["auto", "cnn", "tract", "tensorrt"]), "which engine"),
    valued(
        "precision",
        "PRECISION",
        OneOf(&["full", "half", "int8"]),
        "how exactly the CPU computes (default full)",
    ),
    valued("confidence", "SCORE", Something, "lowest score that the detections of a run must have"),
    flag("together", "all threads on one frame"),
    flag("profile", "time each step of the engine"),
    flag("ways", "time each way of each convolution"),
    valued("input", "FILE", File, "run once on these numbers (32-bit floats) instead of timing"),
    valued("dump", "FOLDER", File, "with --input: write every raw output there"),
    flag("json", "one line of JSON"),
];

const PIPELINE: &[Opt] = &[
    valued("model", "FILE", File, "a folder of the cache's layout, or an .onnx file"),
    valued("video", "FILE", File, "the clip that every source plays"),
    valued("sources", "N", Something, "pipelines at once (default 1)"),
    valued("threads", "N", Something, "inference threads (default: one per core)"),
    valued("seconds", "S", Something, "for how long (default 10)"),
    valued("max-fps", "N", Something, "frames a second of each"),
    valued(
        "precision",
        "PRECISION",
        OneOf(&["full", "half", "int8"]),
        "how exactly the CPU computes (default full)",
    ),
    flag("json", "one line of JSON"),
];

const BACKUP: &[Opt] = &[
    valued(
        "config",
        "FILE",
        File,
        "configuration of the service (default /etc/weir/weir.toml where it exists)",
    ),
    valued(
        "state",
        "FOLDER",
        File,
        "service.state_dir, where the configuration does not name it (default /var/lib/weir)",
    ),
    valued(
        "passphrase-file",
        "FILE",
        File,
        "a file whose first line is the passphrase (default WEIR_PASSPHRASE)",
    ),
];

const BACKUP_ONLY: &[Opt] = &[
    flag("without-secrets", "leave out keys, tokens and the pipelines' own secrets, and encrypt nothing"),
    flag("models", "with the local models of models.dirs and the cache"),
];

const RESTORE_ONLY: &[Opt] = &[
    flag("force", "write over files that are there and differ; each is kept beside as NAME.before-restore"),
    valued("root", "FOLDER", File, "write below this folder instead of /"),
    flag("list", "say what is in it and write nothing"),
];

const SHELLS: Names = OneOf(&["bash", "zsh", "fish"]);

const fn kind(
    name: &'static str,
    arguments: &'static str,
    summary: &'static str,
    options: &'static [&'static [Opt]],
) -> Command {
    Command { name, arguments, names: Something, summary, details: "", options, kinds: &[] }
}

const CTL: &[Command] = &[
    kind("list", "", "ids of all pipelines", &[CONNECTION, GENERAL]),
    kind(
        "init",
        "",
        "start a pipeline; the API key comes from ROBOFLOW_API_KEY",
        &[INIT, CONNECTION, GENERAL],
    ),
    kind("status", "ID", "its report", &[CONNECTION, GENERAL]),
    kind("pause", "ID", "process no frames, keep the cameras", &[CONNECTION, GENERAL]),
    kind("resume", "ID", "process frames again", &[CONNECTION, GENERAL]),
    kind("terminate", "ID", "end it", &[CONNECTION, GENERAL]),
    kind("listen", "PORT", "print the datagrams that arrive on a UDP port", &[GENERAL]),
];

const BENCH: &[Command] = &[
    kind("engine", "", "time a model", &[ENGINE, GENERAL]),
    kind("pipeline", "", "time the whole path, without a network", &[PIPELINE, GENERAL]),
    Command {
        name: "decode",
        arguments: "FILE",
        names: File,
        summary: "time the decoder on a clip",
        details: "",
        options: &[DECODE, GENERAL],
        kinds: &[],
    },
];

/// Every command, in the order of the manual.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "serve",
        arguments: "",
        names: Something,
        summary: "serve the Stream Manager protocol and the Stream Management API",
        details: "Until SIGTERM or SIGINT; then every pipeline is ended, the cameras are told goodbye, and the exit code is 0. SIGHUP \
                  reads tokens, certificates, [mqtt] and declared pipelines again. This is what plain weir does.",
        options: &[SERVICE, GENERAL, VERSION],
        kinds: &[],
    },
    Command {
        name: "demo",
        arguments: "",
        names: Something,
        summary: "serve with one pipeline on the bundled clip and print what it sees",
        details: "Needs neither a camera nor a network.",
        options: &[SERVICE, GENERAL, VERSION],
        kinds: &[],
    },
    Command {
        name: "ctl",
        arguments: "COMMAND",
        names: Something,
        summary: "steer a service",
        details: "A client of the TCP protocol, for boards without curl. Replies are one line of JSON; control characters in them are \
                  made visible. The exit code is 1 when the service says failure.",
        options: &[],
        kinds: CTL,
    },
    Command {
        name: "check",
        arguments: "[MODEL]",
        names: File,
        summary: "say what this machine has; or load a model (id, folder or .onnx) and say what it is and costs",
        details: "",
        options: &[CHECK, SERVICE, GENERAL, VERSION],
        kinds: &[],
    },
    Command {
        name: "models",
        arguments: "COMMAND",
        names: Something,
        summary: "models of one's own",
        details: "A file from elsewhere becomes a model that pipelines can name, with what has to be said about it.",
        options: &[],
        kinds: MODELS,
    },
    Command {
        name: "record",
        arguments: "URL FILE",
        names: Something,
        summary: "record what a camera and weir say to each other, for whoever has to find out why it does not play",
        details: "A pcapng file, which Wireshark and tshark open. The camera is played as the service plays it, by a worker that is confined \
                  alike; RTSP and HTTP stand in the file as plain text, also those inside TLS. Pictures are cut out: of packets that carry \
                  them only their headers are kept, and how long they were. User, password and whatever looks like a token are taken \
                  out; addresses and the camera's description of itself are not: look at it before it is sent. A file that is there is not \
                  written over. Where URL is - it is read from standard input, so that no list of processes shows its password. Interrupted, \
                  the file is whole. The exit code is 69 when nothing came.",
        options: &[RECORD, GENERAL],
        kinds: &[],
    },
    Command {
        name: "bench",
        arguments: "WHAT",
        names: Something,
        summary: "measure what this machine can do",
        details: "",
        options: &[],
        kinds: BENCH,
    },
    Command {
        name: "backup",
        arguments: "FILE",
        names: File,
        summary: "write configuration, pipelines and their secrets into one file",
        details: "The file is encrypted with a passphrase (or, with --without-secrets, holds none). It has what the service needs to go \
                  on elsewhere: the configuration file, the files that it names (tokens, certificates and keys), /etc/default/weir, \
                  the credentials of systemd, declared pipelines, and the pipelines of the state directory.",
        options: &[BACKUP, BACKUP_ONLY, GENERAL],
        kinds: &[],
    },
    Command {
        name: "restore",
        arguments: "FILE",
        names: File,
        summary: "put back what a backup holds",
        details: "Files go where they came from, with their modes. Nothing that is there is overwritten without --force. Stop the \
                  service before, start it afterwards.",
        options: &[BACKUP, RESTORE_ONLY, GENERAL],
        kinds: &[],
    },
    Command {
        name: "completions",
        arguments: "SHELL",
        names: SHELLS,
        summary: "print what makes bash, zsh or fish complete these commands",
        details: "",
        options: &[GENERAL],
        kinds: &[],
    },
    kind("manual", "", "print the man page", &[GENERAL]),
    kind("help", "[COMMAND]", "say what there is, or more of one command", &[]),
    kind("version", "", "the version", &[]),
];

/// Exit codes, and what they mean; those from 64 on are of sysexits.h.
pub(super) const EXIT_CODES: &[(u8, &str)] = &[
    (0, "done; of serve: a clean drain"),
    (1, "ctl: the service says failure"),
    (64, "the command line cannot be understood"),
    (65, "a backup that is damaged, or another passphrase"),
    (66, "a file that is named is not there: a model, a clip, a backup"),
    (
        69,
        "a port is taken, the service or the camera does not answer, or the registry does not know or does not give a model",
    ),
    (70, "anything else went wrong inside"),
    (73, "a file cannot be written, or is there already"),
    (77, "the registry refuses the key"),
    (78, "the configuration cannot be used"),
];

/// Files, and what they are.
pub(super) const FILES: &[(&str, &str)] = &[
    (
        "/etc/weir/weir.toml",
        "Configuration; the package installs it with every key at its default. Flags win over the environment, the environment over this file.",
    ),
    ("/etc/weir/pipelines.d/NAME.json", "A pipeline each: what init takes."),
    ("/etc/default/weir, /etc/weir/secrets.env", "Environment of the systemd service."),
    (
        "/etc/credstore/weir.tokens, /etc/credstore/weir.api-key, /etc/credstore/weir.mqtt-password",
        "Tokens, the API key and the password for the broker as credentials of systemd.",
    ),
    ("/var/lib/weir", "Pipelines, kept over restarts."),
    ("/var/cache/weir", "Downloaded models of the systemd service."),
];

/// Every variable, and what it is for. A test holds it against those that are read.
pub(super) const VARIABLES: &[(&str, &str)] = &[
    ("STREAM_MANAGER_HOST", "tcp.host; where ctl finds the service"),
    ("STREAM_MANAGER_PORT", "tcp.port; where ctl finds the service"),
    ("PORT", "tcp.port, where STREAM_MANAGER_PORT is not set"),
    ("STREAM_MANAGER_SOCKET_TIMEOUT", "tcp.socket_timeout_s"),
    ("STREAM_MANAGEMENT_API_HOST", "http.host"),
    ("STREAM_MANAGEMENT_API_PORT", "http.port"),
    ("WEIR_TOKEN", "one token with the scope control; the token that ctl shows"),
    ("WEIR_MQTT_PASSWORD", "password of mqtt.user at the broker"),
    ("WEIR_TOKEN_FILE", "file of the token that ctl shows"),
    ("WEIR_ADDR", "where ctl finds the service"),
    ("WEIR_CACERT", "whose certificates ctl trusts"),
    ("WEIR_CERT", "the certificate that ctl shows"),
    ("WEIR_KEY", "its private key"),
    ("WEIR_SINK_AUTHORIZATION", "authorization of the http sinks that ctl init asks for"),
    ("WEIR_PASSPHRASE", "of a backup"),
    ("MODEL_CACHE_DIR", "models.cache_dir"),
    ("WEIR_MODELS_DIR", "models.dirs, separated by colons"),
    ("API_BASE_URL", "models.api_base_url"),
    ("LICENSE_SERVER", "models.license_server"),
    ("REQUESTS_CA_BUNDLE", "models.ca_file"),
    ("SSL_CERT_FILE", "the same, where nothing else names one"),
    ("SSL_CERT_DIR", "a folder of certificates that the system's are replaced with"),
    ("HTTPS_PROXY", "proxy for requests to https servers: http://[NAME:PASSWORD@]HOST[:PORT]"),
    ("HTTP_PROXY", "proxy for requests to http servers"),
    ("ALL_PROXY", "proxy for both, where theirs is not set"),
    (
        "NO_PROXY",
        "who is asked without a proxy: names (and all below them), addresses, networks (10.0.0.0/8), each with a :PORT or without, or *",
    ),
    ("DEVICE_ID", "models.device_id"),
    ("ROBOFLOW_API_KEY", "key for pipelines that bring none"),
    ("API_KEY", "the same, where ROBOFLOW_API_KEY is not set"),
    ("ROBOFLOW_API_REQUEST_TIMEOUT", "models.request_timeout_s"),
    ("TRANSIENT_ROBOFLOW_API_ERRORS_RETRIES", "models.retries"),
    ("TRANSIENT_ROBOFLOW_API_ERRORS_RETRY_INTERVAL", "models.retry_interval_s"),
    ("ROBOFLOW_API_EXTRA_HEADERS", "JSON object of header fields for every request to the API"),
    ("WEIR_ENGINE", "models.engine"),
    ("WEIR_PRECISION", "models.precision"),
    ("TENSORRT_CACHE_PATH", "tensorrt.cache_dir"),
    ("WEIR_OFFLINE", "models.offline"),
    ("WEIR_OPEN_FOLDERS", "service.open_folders"),
    ("MODEL_VALIDATION_DISABLED", "the opposite of models.validate"),
    ("DISABLE_PREPROC_CONTRAST", "models.disable_contrast"),
    ("DISABLE_PREPROC_GRAYSCALE", "models.disable_grayscale"),
    ("DISABLE_PREPROC_STATIC_CROP", "models.disable_static_crop"),
    ("CONFIDENCE", "detection.confidence"),
    ("IOU_THRESHOLD", "detection.iou_threshold"),
    ("MAX_DETECTIONS", "detection.max_detections"),
    ("MAX_CANDIDATES", "detection.max_candidates"),
    ("CLASS_AGNOSTIC_NMS", "detection.class_agnostic_nms"),
    ("VIDEO_SOURCE_BUFFER_SIZE", "capture.buffer_size"),
    ("INFERENCE_PIPELINE_RESTART_ATTEMPT_DELAY", "capture.retry_delay_s"),
    ("ENABLE_FRAME_DROP_ON_VIDEO_FILE_RATE_LIMITING", "capture.stride_files"),
    ("STATE_DIRECTORY", "service.state_dir; systemd sets it"),
    ("LOG_LEVEL", "service.log_level"),
    ("CREDENTIALS_DIRECTORY", "systemd's credentials: weir.tokens, weir.api-key, weir.mqtt-password"),
    ("WEIR_ASSETS_DIR", "where demo finds its clip and model"),
    ("TZ", "the time zone of the stamps in reports and datagrams"),
];

/// The command of that name.
pub(super) fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

impl Command {
    /// Its options, in order.
    pub(super) fn options(&self) -> impl Iterator<Item = &'static Opt> {
        self.options.iter().flat_map(|options| options.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_that_is_read_is_in_the_manual() {
        let described = |name: &str| VARIABLES.iter().any(|(known, _)| *known == name);
        for name in crate::config::variables() {
            assert!(described(name), "{name}");
        }
        let mut names: Vec<_> = VARIABLES.iter().map(|(name, _)| name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), VARIABLES.len());
    }

    #[test]
    fn packaged_manual_and_completions_are_those_of_the_program() {
        let packaging = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
        let made = [
            ("weir.1", page::page()),
            ("completions/weir.bash", complete::bash()),
            ("completions/_weir", complete::zsh()),
            ("completions/weir.fish", complete::fish()),
        ];
        for (name, made) in made {
            let packaged = std::fs::read_to_string(packaging.join(name)).unwrap_or_default();
            assert!(packaged == made, "packaging/{name} is out of date: packaging/manual.sh makes it anew");
        }
    }
}
