//! TLS to a camera. Its certificate is rarely from a public authority: who vouches for it, the configuration
//! says.

use crate::capture::Trust;
use crate::capture::worker::dial;
use crate::error::{Error, Kind, Result};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::sync::Arc;

/// How connections to a camera are made and checked: once for all of a source's.
///
/// Errors: `SourceConnection`: certificates that are none.
pub(in crate::capture::worker) fn config(trust: &Trust) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let verifier = verifier(trust, &provider)?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// A connection whose handshake has not begun.
///
/// Errors: `SourceConnection`: a name that TLS cannot use.
pub(super) fn connection(host: &str, config: &Arc<ClientConfig>) -> Result<ClientConnection> {
    let name = ServerName::try_from(host.to_owned()).map_err(|cause| {
        Error::new(Kind::SourceConnection, "the host is no name that a certificate can have").because(cause)
    })?;
    ClientConnection::new(Arc::clone(config), name).map_err(unusable)
}

fn unusable(cause: rustls::Error) -> Error {
    Error::new(Kind::SourceConnection, "TLS cannot be used").because(cause)
}

/// Whoever the configuration says may vouch for the camera.
fn verifier(trust: &Trust, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>> {
    let unusable = |cause: String| {
        Error::new(Kind::SourceConnection, "the certificates to trust cannot be used").because(cause)
    };
    Ok(match trust {
        Trust::Insecure => Arc::new(Pinned { exactly: None, by: None, provider: Arc::clone(provider) }),
        Trust::Machine => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(dial::certificates()?.into_iter().map(CertificateDer::from));
            let verifier =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
            verifier.map_err(|cause| unusable(cause.to_string()))?
        }
        Trust::Certificates(certificates) => {
            let certificates: Vec<_> =
                certificates.iter().map(|der| CertificateDer::from(der.clone())).collect();
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates.iter().cloned());
            let by = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
                .build()
                .ok();
            Arc::new(Pinned { exactly: Some(certificates), by, provider: Arc::clone(provider) })
        }
    })
}

/// Why TLS failed, in words that help.
pub(super) fn failed(cause: rustls::Error) -> Error {
    let words = match &cause {
        rustls::Error::InvalidCertificate(_) => {
            "the camera's certificate is not trusted: name it, or its authority, in capture.camera_certificates"
        }
        rustls::Error::InvalidMessage(_) => "the camera does not speak TLS on this port",
        _ => "the TLS connection failed",
    };
    Error::new(Kind::SourceConnection, words).because(cause)
}

/// Trusts these very certificates, whatever names they bear, and what authorities among them have signed.
#[derive(Debug)]
struct Pinned {
    /// The certificates that are accepted; `None`: any.
    exactly: Option<Vec<CertificateDer<'static>>>,
    /// `None`: there is no authority among them.
    by: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        match (&self.exactly, &self.by) {
            (None, _) => Ok(ServerCertVerified::assertion()),
            (Some(pinned), _) if pinned.iter().any(|pinned| pinned.as_ref() == certificate.as_ref()) => {
                Ok(ServerCertVerified::assertion())
            }
            (_, Some(by)) => by.verify_server_cert(certificate, intermediates, name, ocsp, now),
            (_, None) => Err(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        if self.exactly.is_none() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        if self.exactly.is_none() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
