//! TLS: towards agents and operators with a certificate of ours, towards providers with roots that we trust.

use super::RouterError;
use super::config::{Config, Tls};
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{self, CryptoProvider};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

fn provider() -> Arc<CryptoProvider> {
    Arc::new(crypto::ring::default_provider())
}

/// What accepts connections over TLS that then speak one of these protocols.
pub(super) fn acceptor(tls: &Tls, protocols: &[&str]) -> Result<TlsAcceptor, RouterError> {
    let unusable = |path: &Path| {
        let path = path.to_owned();
        move |error: pem::Error| RouterError::Certificate { path, reason: error.to_string() }
    };
    let certificates = CertificateDer::pem_file_iter(&tls.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(unusable(&tls.cert))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(unusable(&tls.key))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, key))
        .map_err(RouterError::Tls)?;
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().into()).collect();
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// TLS towards the providers: the usual authorities, and perhaps some more.
pub(super) fn connector(config: &Config) -> Result<ClientConfig, RouterError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() };
    if let Some(path) = &config.upstream_ca {
        let unusable = |reason: String| RouterError::Certificate { path: path.clone(), reason };
        let certificates = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| unusable(error.to_string()))?;
        if certificates.is_empty() {
            return Err(unusable("it holds no certificate".into()));
        }
        for certificate in certificates {
            roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
        }
    }
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(RouterError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
