//! The authorities that this machine trusts to vouch for cameras: workers cannot read files, so the service
//! does.
//!
//! Read when a worker first needs them (`https://`, `rtsps://`), from where the system or SSL_CERT_FILE and
//! SSL_CERT_DIR say, and kept for some minutes: sixteen cameras that come back at once cost one look at two
//! hundred files.

use crate::capture::ipc::MAX_CERTIFICATE_BYTES;
use rustix::fs::{MemfdFlags, SealFlags};
use std::io::{Seek, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A certificate that was installed or taken away counts after so long at the latest.
const MAX_AGE: Duration = Duration::from_secs(300);

static KNOWN: Mutex<Option<(Instant, Arc<Vec<u8>>)>> = Mutex::new(None);

/// A file with all of them, each behind its length, that nobody can change. Blocks while they are read.
pub(super) fn file() -> Result<Vec<OwnedFd>, String> {
    let words = |cause: std::io::Error| format!("handing the certificates over: {cause}");
    let bytes = known()?;
    let memory =
        rustix::fs::memfd_create(c"weir-authorities", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING);
    let mut file = std::fs::File::from(memory.map_err(|errno| words(errno.into()))?);
    // The reader begins where we leave off.
    file.write_all(&bytes).and_then(|()| file.rewind()).map_err(words)?;
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals).map_err(|errno| words(errno.into()))?;
    Ok(vec![file.into()])
}

fn known() -> Result<Arc<Vec<u8>>, String> {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((since, bytes)) = &*known
        && since.elapsed() < MAX_AGE
    {
        return Ok(Arc::clone(bytes));
    }
    let read = rustls_native_certs::load_native_certs();
    if read.certs.is_empty() {
        let why = read.errors.first().map_or_else(|| "there are none".to_owned(), ToString::to_string);
        return Err(format!(
            "no certificates of authorities: {why}. Install ca-certificates, or set SSL_CERT_FILE"
        ));
    }
    let mut bytes = Vec::new();
    for certificate in &read.certs {
        let Ok(length) = u32::try_from(certificate.len()) else { continue };
        if bytes.len() + 4 + certificate.len() > MAX_CERTIFICATE_BYTES {
            log::warn!("event=certificates_left_out more_than_bytes={MAX_CERTIFICATE_BYTES}");
            break;
        }
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(certificate);
    }
    let bytes = Arc::new(bytes);
    *known = Some((Instant::now(), Arc::clone(&bytes)));
    Ok(bytes)
}
