//! The way to the server: one client, through which all connections are made.

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisError};

use super::CONNECT_TIMEOUT;
use crate::{Config, Error, Result};

/// A client for the server of `config`, with small packets sent at once.
pub(super) fn client(config: &Config) -> Result<redis::Client> {
    let url = config.url.as_str();
    let scheme = url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    let is_tls = scheme.is_some_and(|scheme| ["rediss", "valkeys"].contains(&scheme.as_str()));
    if is_tls && cfg!(not(feature = "tls")) {
        return Err(Error::Unfit {
            what: "this program was built without TLS to Redis; build it with the feature `tls`, or use redis:// or unix://"
                .into(),
        });
    }
    if is_tls && url.contains('#') {
        return Err(Error::invalid(
            "the Redis URL must not have a `#` in it: certificates are always verified, ORCHESTRATOR_REDIS_CA names the file \
             with an authority of your own, and a `#` in a password is written %23",
        ));
    }
    let info = url.into_connection_info().map_err(|error| {
        Error::invalid(format!(
            "the Redis URL is not understood ({error}); write redis://host:6379, rediss://host:6379 or unix:///path"
        ))
    })?;
    if !config.redis_tls.is_default() && matches!(info.addr(), ConnectionAddr::Tcp(..)) {
        return Err(Error::invalid(
            "ORCHESTRATOR_REDIS_CA and ORCHESTRATOR_REDIS_CERT are for rediss:// URLs; redis:// is not encrypted",
        ));
    }
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    let info = info.set_tcp_settings(tcp);
    match is_tls {
        true => over_tls(info, config),
        false => redis::Client::open(info).map_err(|error| Error::invalid(error.to_string())),
    }
}

#[cfg(feature = "tls")]
fn over_tls(info: ConnectionInfo, config: &Config) -> Result<redis::Client> {
    use redis::{ClientTlsConfig, TlsCertificates};
    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    // The library below asks for one of the process. Whoever has installed one already keeps it.
    let _ = aws_lc_rs::default_provider().install_default();
    let tls = &config.redis_tls;
    for (name, pem) in [("ORCHESTRATOR_REDIS_CA", &tls.ca), ("ORCHESTRATOR_REDIS_CERT", &tls.certificate)] {
        let Some(pem) = pem else { continue };
        let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
        if certificates.map_or(true, |found| found.is_empty()) {
            return Err(Error::invalid(format!(
                "{name} has no sound certificate in it; it needs PEM: -----BEGIN CERTIFICATE-----"
            )));
        }
    }
    let client_tls = tls.certificate.clone().zip(tls.key.clone()).map(|(certificate, key)| ClientTlsConfig {
        client_cert: certificate.into_bytes(),
        client_key: key.into_bytes(),
    });
    let root_cert = tls.ca.clone().map(String::into_bytes);
    redis::Client::build_with_tls(info, TlsCertificates { client_tls, root_cert })
        .map_err(|error| Error::invalid(format!("TLS to Redis cannot be set up: {error}")))
}

#[cfg(not(feature = "tls"))]
fn over_tls(info: ConnectionInfo, _: &Config) -> Result<redis::Client> {
    redis::Client::open(info).map_err(|error| Error::invalid(error.to_string()))
}

/// One plain connection, or a clear error soon.
pub(super) async fn dedicated(client: &redis::Client) -> Result<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(CONNECT_TIMEOUT));
    let link = client.get_multiplexed_async_connection_with_config(&config).await;
    link.map_err(|error| refused(&client.get_connection_info().addr().to_string(), error))
}

/// What it means that no connection came about.
fn refused(address: &str, error: RedisError) -> Error {
    let said = error.to_string();
    let unfit = |what: String| Error::Unfit { what };
    if said.contains("invalid peer certificate") {
        unfit(format!(
            "the certificate of Redis at {address} is not accepted ({said}); it has to be for that host, and by a public \
             authority or one in the file that ORCHESTRATOR_REDIS_CA names"
        ))
    } else if said.contains("received fatal alert") {
        unfit(format!(
            "Redis at {address} does not accept this client over TLS ({said}); if it wants to see a certificate, \
             ORCHESTRATOR_REDIS_CERT and ORCHESTRATOR_REDIS_KEY name the files of one that it trusts"
        ))
    } else if error.kind() == ErrorKind::AuthenticationFailed {
        unfit(format!("Redis at {address} does not accept the user or the password of the URL"))
    } else if error.kind() == ErrorKind::InvalidClientConfig {
        Error::invalid(format!("no connection to {address} can be made: {said}"))
    } else {
        Error::Unavailable { reason: format!("no connection to {address}: {said}"), source: Some(Box::new(error)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(url: &str) -> String {
        client(&Config::new(url)).map(drop).expect_err(url).to_string()
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn without_the_feature_tls_is_refused_and_not_left_out() {
        for url in ["rediss://u:hidden@localhost", "REDISS://localhost", "valkeys://localhost"] {
            let said = fault(url);
            assert!(said.contains("feature `tls`") && !said.contains("hidden"), "{said}");
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn there_is_no_url_that_leaves_the_verification_out() {
        for url in ["rediss://u:hidden@localhost#insecure", "REDISS://localhost/#insecure", "valkeys://localhost#x"] {
            let said = fault(url);
            assert!(said.contains("always verified") && !said.contains("hidden"), "{said}");
        }
        assert!(client(&Config::new("rediss://u:p%23@localhost:6380/1")).is_ok());
    }
}
