//! TLS as libpq understands `sslmode`: `require` encrypts and asks nobody who the server is,
//! `verify-ca` checks the chain, `verify-full` the name as well.

use super::super::config::{Checked, SslMode};
use crate::runtime::error::{Code, Error, Result};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::sync::Arc;

/// How this platform's connections are encrypted; `None` if they are not.
pub(crate) fn client(config: &Checked) -> Result<Option<ClientConfig>> {
    if config.sslmode == SslMode::Disable || config.is_local() {
        return Ok(None);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::new(Code::Unexpected, "TLS cannot be set up").caused_by(e))?;
    if config.sslmode == SslMode::VerifyFull {
        return Ok(Some(builder.with_root_certificates(roots(config)?).with_no_client_auth()));
    }
    let chain = match config.sslmode {
        SslMode::VerifyCa => Some(chain(config, &provider)?),
        _ => None,
    };
    let lenient = Arc::new(Lenient { chain, provider });
    Ok(Some(builder.dangerous().with_custom_certificate_verifier(lenient).with_no_client_auth()))
}

fn chain(config: &Checked, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots(config)?), provider.clone())
        .build()
        .map_err(|e| Error::new(Code::ConfigInvalid, "sslrootcert holds no usable certificate").caused_by(e))
}

fn roots(config: &Checked) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    let Some(path) = &config.sslrootcert else {
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(store);
    };
    let unreadable = |e| {
        let text = "sslrootcert cannot be read: it must be a file of certificates in PEM form";
        Error::new(Code::ConfigInvalid, text).at("file", path.display()).caused_by(e)
    };
    for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
        let added = store.add(certificate.map_err(unreadable)?);
        added.map_err(|e| {
            Error::new(Code::ConfigInvalid, "sslrootcert holds a broken certificate")
                .at("file", path.display())
                .caused_by(e)
        })?;
    }
    Ok(store)
}

/// Checks less than the name: the chain, or nothing at all. The handshake's signature is checked always.
#[derive(Debug)]
struct Lenient {
    chain: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            answer => answer,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
