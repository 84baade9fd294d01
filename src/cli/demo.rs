//! `weir demo`: the service with one pipeline on the bundled clip, its detections printed as they arrive over
//! UDP.

use super::output::say;
use super::{Options, present};
use crate::command::{Command, Execute, Init, SourceReference};
use crate::config::Config;
use crate::error::{Error, Kind, Result, system};
use crate::pipeline::Commands;
use crate::service::{self, Addresses};
use crate::sink::UdpSink;
use smol::Async;
use std::io::Write;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::ExitCode;

/// Model and clip, by their names in the assets folder.
const MODEL: &str = "nanodet-coco-416.onnx";
const CLIP: &str = "sample.mp4";
/// Largest payload a datagram can have.
const MAX_DATAGRAM_BYTES: usize = 65_536;

/// Serves until a signal.
pub(super) fn run(options: Options) -> Result<ExitCode> {
    if options.told {
        return Ok(ExitCode::SUCCESS);
    }
    let assets = find_assets()?;
    let mut config: Config = options.configure()?;
    config.models.dirs.push(assets.clone());
    // The demo never needs a network, even where a key is configured.
    config.models.offline = true;
    // Nor does it touch what the service of this machine watches.
    config.service.state_dir = PathBuf::new();
    config.service.pipelines_dir = PathBuf::new();
    let mut failure = None;
    service::run(&config, None, async |commands, addresses| {
        if let Err(error) = show(&commands, addresses, &assets).await {
            eprintln!("weir: {}", error.message());
            failure = Some(error);
        }
    })?;
    failure.map_or(Ok(ExitCode::SUCCESS), Err)
}

/// Where the clip and the model lie: beside a clone, beside the binary, or where packages put them.
fn find_assets() -> Result<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.to_owned()));
    let candidates = std::env::var_os("WEIR_ASSETS_DIR")
        .map(PathBuf::from)
        .into_iter()
        .chain([PathBuf::from("assets")])
        .chain(beside.into_iter().flat_map(|folder| {
            [folder.join("assets"), folder.join("../share/weir/demo"), folder.join("../../assets")]
        }));
    let mut candidates = candidates.chain([PathBuf::from("/usr/share/weir/demo")]);
    let found = candidates.find(|folder| folder.join(MODEL).is_file() && folder.join(CLIP).is_file());
    let found = found.and_then(|folder| folder.canonicalize().ok());
    found.ok_or_else(|| {
        Error::new(
            Kind::Configuration,
            format!("no folder with {MODEL} and {CLIP}; name one in WEIR_ASSETS_DIR"),
        )
    })
}

async fn show(commands: &Commands, addresses: Addresses, assets: &std::path::Path) -> Result<()> {
    let socket = Async::<UdpSocket>::bind(([127, 0, 0, 1], 0)).map_err(system("open a UDP socket"))?;
    let port = socket.get_ref().local_addr().map_err(system("ask for the local address"))?.port();
    // With a scheme it is a stream: paced like a camera and started again at its end.
    let reference = SourceReference::Text(format!("file://{}", assets.join(CLIP).display()));
    let http = addresses.http;
    let init = Init::new(
        assets.join(MODEL).display().to_string(),
        reference,
        UdpSink { host: "127.0.0.1".to_owned(), port },
    );
    say!(
        "weir demo: the page is at http://{http}/ (HTTP API: http://{http}/docs, TCP: {}); Ctrl-C ends it",
        addresses.tcp
    );
    commands.execute(Command::Init(Box::new(init))).await?;
    let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        let (length, _) = socket.recv_from(&mut buffer).await.map_err(system("receive a datagram"))?;
        let line = present::line(buffer.get(..length).unwrap_or_default());
        // Somebody who pipes it into `head` has seen enough; the service goes on.
        if writeln!(std::io::stdout(), "{line}").is_err() {
            return Ok(());
        }
    }
}
