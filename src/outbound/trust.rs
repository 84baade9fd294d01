//! Whose certificates are trusted, and in words why one is not.

use crate::clock::{self, Wall};
use crate::error::{Error, Kind, Result};
use futures_rustls::rustls;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Whom a client of TLS trusts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Trust {
    /// What the system trusts.
    #[default]
    System,
    /// The certificates of a file, PEM, and those they have signed: of a CA, or of one server.
    File(PathBuf),
}

/// What a client shows of itself.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its certificate and those between it and its CA, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

impl Trust {
    /// `file`, unless it is empty; else what OpenSSL's variable names; else the system's.
    pub fn from_environment(file: &Path, environment: impl Fn(&str) -> Option<String>) -> Trust {
        let set = |name: &str| environment(name).filter(|value| !value.is_empty());
        if !file.as_os_str().is_empty() {
            return Trust::File(file.to_owned());
        }
        match (set("SSL_CERT_FILE"), set("SSL_CERT_DIR")) {
            (Some(file), None) => Trust::File(file.into()),
            // The system's verifier reads both.
            _ => Trust::System,
        }
    }

    /// The configuration of a client of TLS.
    pub fn client(&self, identity: Option<&Identity>) -> Result<Arc<ClientConfig>> {
        let provider = Arc::new(ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match self {
            Trust::File(path) => Arc::new(Pinned::load(path, provider.clone())?),
            Trust::System => {
                let verifier =
                    rustls_platform_verifier::Verifier::new(provider.clone()).map_err(|cause| {
                        Error::new(
                            Kind::System,
                            format!("cannot read the certificates that this system trusts: {cause}"),
                        )
                    })?;
                Arc::new(verifier)
            }
        };
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder =
            builder.map_err(|cause| Error::new(Kind::System, "cannot set up TLS").because(cause))?;
        // Not dangerous: both verify as they should.
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let Some(Identity { certificate, key }) = identity else {
            return Ok(Arc::new(builder.with_no_client_auth()));
        };
        let chain = certificates(certificate)?;
        let private = PrivateKeyDer::from_pem_file(key).map_err(|cause| unusable(key, &cause))?;
        let config =
            builder.with_client_auth_cert(chain, private).map_err(|cause| unusable(certificate, &cause))?;
        Ok(Arc::new(config))
    }
}

/// Verifies against the certificates of a file. Unlike rustls alone, and as curl does, a server's own
/// certificate that stands in the file is trusted even when it says of itself that it is a CA, as those that
/// `openssl req -x509` makes do.
#[derive(Debug)]
struct Pinned {
    inner: Arc<WebPkiServerVerifier>,
    certificates: Vec<CertificateDer<'static>>,
}

impl Pinned {
    fn load(path: &Path, provider: Arc<CryptoProvider>) -> Result<Pinned> {
        let certificates = certificates(path)?;
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots.add(certificate.clone()).map_err(|cause| unusable(path, &cause))?;
        }
        let inner = WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build();
        Ok(Pinned { inner: inner.map_err(|cause| unusable(path, &cause))?, certificates })
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified =
            self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // Both are found after the dates have been checked, and before the name is.
            Err(rustls::Error::InvalidCertificate(why))
                if is_about_who_signed(&why) && self.certificates.contains(end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Nobody known has signed it, or it is a CA's and stands where a server's should.
fn is_about_who_signed(why: &CertificateError) -> bool {
    match why {
        CertificateError::UnknownIssuer => true,
        // The type behind it belongs to a crate that is not ours to name; its words are held by a test.
        CertificateError::Other(other) => format!("{other:?}").contains("CaUsedAsEndEntity"),
        _ => false,
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => Err(unusable(path, &"it holds no certificate")),
        read => read.map_err(|cause| unusable(path, &cause)),
    }
}

fn unusable(path: &Path, cause: &dyn std::fmt::Display) -> Error {
    Error::new(Kind::Configuration, format!("cannot use {} for TLS: {cause}", path.display()))
}

/// Why `host` could not be agreed with on TLS.
pub fn explain(error: &rustls::Error, host: &str) -> String {
    use CertificateError::{
        Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet, NotValidYetContext,
        Revoked, UnknownIssuer,
    };
    let day = |time: UnixTime| clock::date(i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
    let rustls::Error::InvalidCertificate(why) = error else {
        return format!("cannot agree with {host} on TLS: {error}");
    };
    let fault = clock::fault(Wall::now());
    let words = match why {
        Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. } => {
            let limit = match why {
                ExpiredContext { not_after, .. } => format!("expired on {}", day(*not_after)),
                NotValidYetContext { not_before, .. } => format!("is not valid before {}", day(*not_before)),
                Expired => "has expired".to_owned(),
                _ => "is not valid yet".to_owned(),
            };
            // The clock is told in any case: it is the other half of the comparison.
            let now = format!("this machine's clock says {}", clock::date(Wall::now().micros() / 1_000_000));
            return format!("the certificate of {host} {limit}; {}", fault.unwrap_or(now));
        }
        UnknownIssuer => {
            "is signed by nobody whom this machine trusts: a proxy that looks into TLS, or a CA of one's own, belongs into the \
             system's certificates or into models.ca_file"
                .to_owned()
        }
        NotValidForName | NotValidForNameContext { .. } => "is for other names".to_owned(),
        Revoked => "was revoked".to_owned(),
        other if is_about_who_signed(other) => {
            "is that of a CA: to trust this very one, put it into a file and name that in models.ca_file".to_owned()
        }
        other => format!("cannot be used: {other:?}"),
    };
    let fault = fault.map(|fault| format!("; {fault}")).unwrap_or_default();
    format!("the certificate of {host} {words}{fault}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rustls::{ClientConnection, ServerConfig, ServerConnection};

    fn at(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/assets/tls").join(name)
    }

    /// A handshake with a server that shows `NAME.pem`, by a client that trusts `trusted.pem` and asks for
    /// `host`: what it says when it refuses.
    fn refusal(server: &str, trusted: &str, host: &'static str) -> Option<String> {
        let chain = certificates(&at(&format!("{server}.pem"))).unwrap();
        let key = PrivateKeyDer::from_pem_file(at(&format!("{server}.key"))).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = builder
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key);
        let mut server = ServerConnection::new(Arc::new(config.unwrap())).unwrap();
        let config = Trust::File(at(&format!("{trusted}.pem"))).client(None).unwrap();
        let mut client = ClientConnection::new(config, host.try_into().unwrap()).unwrap();
        for _ in 0..10 {
            let mut wire = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut wire).unwrap();
            }
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets().unwrap();
            let mut wire = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut wire).unwrap();
            }
            let mut rest = wire.as_slice();
            while !rest.is_empty() {
                client.read_tls(&mut rest).unwrap();
                if let Err(error) = client.process_new_packets() {
                    return Some(explain(&error, host));
                }
            }
            if !client.is_handshaking() {
                return None;
            }
        }
        unreachable!("a handshake has fewer steps")
    }

    #[test]
    fn a_server_s_own_certificate_in_the_file_is_trusted_as_curl_does() {
        assert_eq!(refusal("server", "ca", "localhost"), None);
        assert_eq!(
            refusal("server", "server", "localhost"),
            None,
            "signed by somebody else, and pinned itself"
        );
        assert_eq!(refusal("self", "self", "localhost"), None, "signed by itself, and says that it is a CA");
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_said() {
        for (server, trusted, host, words) in [
            ("expired", "expired", "localhost", &["localhost expired on 2001-01-02", "clock says 20"][..]),
            ("future", "future", "localhost", &["localhost is not valid before 2119-01-01", "clock says 20"]),
            ("self", "ca", "localhost", &["models.ca_file"]),
            ("server", "self", "localhost", &["signed by nobody whom this machine trusts"]),
            ("server", "ca", "other.example", &["other.example is for other names"]),
            ("self", "self", "other.example", &["is for other names"]),
        ] {
            let said = refusal(server, trusted, host).unwrap_or_default();
            assert!(words.iter().all(|words| said.contains(words)), "{server} {trusted} {host}: {said}");
        }
    }

    #[test]
    fn the_variables_of_openssl_are_honoured() {
        let named = |file: &str, set: &[(&str, &str)]| {
            Trust::from_environment(Path::new(file), |name| {
                set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(named("", &[]), Trust::System);
        assert_eq!(named("/a", &[("SSL_CERT_FILE", "/b")]), Trust::File("/a".into()));
        assert_eq!(named("", &[("SSL_CERT_FILE", "/b")]), Trust::File("/b".into()));
        assert_eq!(named("", &[("SSL_CERT_FILE", "/b"), ("SSL_CERT_DIR", "/c")]), Trust::System);
        let error =
            Trust::File("/nonexistent".into()).client(None).err().map(|error| error.message().to_owned());
        assert!(error.is_some_and(|error| error.contains("/nonexistent")));
    }
}
