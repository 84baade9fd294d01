//! Who vouches for a camera's certificate, where it speaks TLS (`rtsps://`, `https://`).

use crate::capture::place::{self, Place};
use crate::command::SourceReference;
use crate::error::{Error, Kind, Result};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::sync::Arc;

/// Most bytes of the certificates for one camera: three of 4096-bit RSA. They travel in the order that starts
/// a worker.
pub const MAX_CERTIFICATE_BYTES: usize = 8 * 1024;

/// Most certificates for one camera.
pub(super) const MAX_CERTIFICATES: usize = 16;

/// Who vouches for one camera.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Trust {
    /// The authorities that this machine trusts.
    #[default]
    Machine,
    /// Only these, in DER: the camera's own certificate, or authorities that signed it.
    Certificates(Vec<Vec<u8>>),
    /// Nobody: any certificate will do.
    Insecure,
}

/// What the configuration says about the certificates of cameras.
#[derive(Debug, Clone, Default)]
pub struct CameraTls {
    /// By host: certificates in DER.
    pub certificates: Vec<(String, Arc<Vec<Vec<u8>>>)>,
    /// Hosts whose certificates are not looked at; `*`: all.
    pub insecure: Vec<String>,
}

impl CameraTls {
    /// Reads what the configuration names: `HOST=FILE` each, and hosts. Says loudly who is trusted blindly.
    ///
    /// Errors: `Configuration`: no such form, or a file that holds no certificates, or too many.
    pub fn load(files: &[String], insecure: &[String]) -> Result<CameraTls> {
        let wrong = |entry: &str, why: String| {
            Error::new(Kind::Configuration, format!("capture.camera_certificates: `{entry}` {why}"))
        };
        let mut certificates = Vec::new();
        for entry in files {
            let (host, file) =
                entry.split_once('=').ok_or_else(|| wrong(entry, "is not HOST=FILE".into()))?;
            let read = CertificateDer::pem_file_iter(file.trim())
                .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>);
            let read: Vec<Vec<u8>> = read
                .map_err(|cause| wrong(entry, format!("cannot be read: {cause}")))?
                .into_iter()
                .map(|certificate| certificate.as_ref().to_vec())
                .collect();
            let bytes: usize = read.iter().map(Vec::len).sum();
            if read.is_empty() || read.len() > MAX_CERTIFICATES || bytes > MAX_CERTIFICATE_BYTES {
                let why = format!(
                    "holds none, or more than {MAX_CERTIFICATES} of {MAX_CERTIFICATE_BYTES} bytes together"
                );
                return Err(wrong(entry, why));
            }
            certificates.push((host.trim().to_owned(), Arc::new(read)));
        }
        for host in insecure {
            log::warn!(
                "event=insecure_camera host={host} certificate=\"not looked at\" key=capture.insecure_cameras"
            );
        }
        Ok(CameraTls { certificates, insecure: insecure.to_vec() })
    }

    /// What holds for a source.
    pub(super) fn of(&self, reference: &SourceReference) -> Trust {
        let url = match Place::of(reference) {
            Place::Rtsp(url) | Place::Http(url) => place::split(&url).map(|(url, _)| url),
            _ => None,
        };
        let Some(host) = url.as_ref().and_then(url::Url::host_str) else { return Trust::Machine };
        let host = host.trim_matches(['[', ']']);
        let is_host = |named: &str| named.trim_matches(['[', ']']).eq_ignore_ascii_case(host);
        match self.certificates.iter().find(|(named, _)| is_host(named)) {
            Some((_, certificates)) => Trust::Certificates(certificates.to_vec()),
            None if self.insecure.iter().any(|named| named == "*" || is_host(named)) => Trust::Insecure,
            None => Trust::Machine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_has_its_own_certificates() {
        let tls = CameraTls {
            certificates: vec![
                ("Cam-1".into(), Arc::new(vec![vec![1]])),
                ("::1".into(), Arc::new(vec![vec![2]])),
            ],
            insecure: vec!["10.0.0.7".into()],
        };
        let of = |url: &str| tls.of(&SourceReference::Text(url.into()));
        assert_eq!(of("rtsps://u:p/w@cam-1:322/x"), Trust::Certificates(vec![vec![1]]));
        assert_eq!(of("https://[::1]/a.jpg"), Trust::Certificates(vec![vec![2]]));
        assert_eq!(of("rtsps://10.0.0.7/x"), Trust::Insecure);
        assert_eq!((of("rtsps://cam-2/x"), of("clip.mp4")), (Trust::Machine, Trust::Machine));
        let all = CameraTls { insecure: vec!["*".into()], ..tls };
        assert_eq!(all.of(&SourceReference::Text("https://cam-2/".into())), Trust::Insecure);
    }
}
