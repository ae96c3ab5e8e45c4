//! HTTPS: the gateway's certificate, and the handshake of a connection.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{Error as TlsError, ServerConfig};
use tokio_rustls::server::TlsStream;

use crate::{Error, Result};

/// Longest time that a handshake may take. Who waits has a place among the connections.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// A certificate and its key, with which the gateway speaks HTTPS: TLS 1.2 and 1.3, HTTP/1.1.
#[derive(Clone)]
pub struct ServerTls(TlsAcceptor);

impl ServerTls {
    /// Reads a certificate with the chain behind it, and its private key, both PEM.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is no PEM of a certificate or a key, and for two that do not belong together.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self> {
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<Vec<_>, _>>();
        let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(|| {
            Error::invalid("there is no sound certificate for HTTPS; it is written -----BEGIN CERTIFICATE-----")
        })?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| {
            Error::invalid("there is no sound private key for HTTPS; it is written -----BEGIN PRIVATE KEY-----")
        })?;
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key));
        let mut config = config.map_err(|error| match error {
            TlsError::InconsistentKeys(_) => {
                Error::invalid("the private key for HTTPS is not the one of the certificate")
            }
            error => Error::invalid(format!("the certificate for HTTPS cannot be used: {error}")),
        })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config).into()))
    }

    /// The handshake of one connection, within `patience` and 10 s.
    pub(super) async fn accept<S>(&self, stream: S, patience: Duration) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let time = patience.min(HANDSHAKE_TIME);
        timeout(time, self.0.accept(stream))
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, format!("no handshake within {time:?}"))))
    }
}

/// Tells nothing of the key.
impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls")
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};

    use super::super::patience::Patient;
    use super::*;

    fn identity() -> (CertificateDer<'static>, String, String) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        (cert.der().clone(), cert.pem(), signing_key.serialize_pem())
    }

    #[test]
    fn what_does_not_go_together_is_named() {
        let ((_, certificate, key), (_, _, other)) = (identity(), identity());
        let fault = |certificate: &str, key: &str| {
            let said = ServerTls::from_pem(certificate, key).expect_err("a fault").to_string();
            assert!(!said.contains("MI"), "nothing of a key is shown: {said}");
            said
        };
        assert!(fault("", &key).contains("no sound certificate"));
        assert!(fault(&key, &key).contains("no sound certificate"));
        assert!(fault(&certificate.replace('M', "!"), &key).contains("no sound certificate"));
        assert!(fault(&certificate, &certificate).contains("no sound private key"));
        assert!(fault(&certificate, &other).contains("not the one of the certificate"));
        let tls = ServerTls::from_pem(&certificate, &key).expect("a pair");
        assert_eq!(format!("{tls:?}"), "ServerTls");
    }

    #[tokio::test]
    async fn who_takes_nothing_is_cut_here_too() {
        let (root, certificate, key) = identity();
        let tls = ServerTls::from_pem(&certificate, &key).expect("a pair");
        let mut roots = RootCertStore::empty();
        roots.add(root).expect("a root");
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions");
        let connector = TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = async {
            let (stream, _) = listener.accept().await.expect("a connection");
            tls.accept(Patient::new(stream, Duration::from_millis(300)), HANDSHAKE_TIME).await.expect("a handshake")
        };
        let client = async {
            let stream = TcpStream::connect(address).await.expect("a connection");
            connector.connect("localhost".try_into().expect("a name"), stream).await.expect("a handshake")
        };
        let (mut server, _client) = tokio::join!(server, client);
        let bytes = vec![7; 1 << 20];
        let error = loop {
            if let Err(error) = server.write_all(&bytes).await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
