//! Refuses a server that would lose tasks or cannot run the scripts.

use redis::aio::MultiplexedConnection;

use super::Fault;
use crate::{Error, Result};

/// Oldest version understood; Valkey tells the Redis version that it is compatible with (7.2).
const VERSION_MIN: (u32, u32) = (7, 0);

/// # Errors
/// [`Error::Unfit`] when the server is too old or may evict keys.
pub(super) async fn check(connection: &mut MultiplexedConnection) -> Result {
    let info: String =
        redis::cmd("INFO").query_async(connection).await.map_err(|error| Fault::from(error).into_error())?;
    judge(&info)
}

fn judge(info: &str) -> Result {
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let version = field("redis_version").unwrap_or("unknown");
    let mut parts = version.split('.').map_while(|part| part.parse::<u32>().ok());
    if (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) < VERSION_MIN {
        return Err(Error::Unfit { what: format!("Redis {version} is too old; use Redis 7.0 or Valkey 7.2 or newer") });
    }
    let policy = field("maxmemory_policy").unwrap_or("unknown");
    if policy != "noeviction" {
        return Err(Error::Unfit {
            what: format!(
                "maxmemory-policy is `{policy}`, under which Redis deletes accepted tasks when memory is short. \
                 Set it to noeviction: CONFIG SET maxmemory-policy noeviction, and in redis.conf"
            ),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::judge;

    #[test]
    fn version_and_policy_decide() {
        let told = |version, policy| judge(&format!("redis_version:{version}\r\nmaxmemory_policy:{policy}\r\n"));
        assert!(told("7.0.15", "noeviction").is_ok());
        assert!(told("10.1", "noeviction").is_ok());
        assert!(told("6.2.14", "noeviction").expect_err("too old").to_string().contains("7.0"));
        assert!(told("8.2.3", "allkeys-lru").expect_err("evicts").to_string().contains("CONFIG SET"));
        assert!(judge("").is_err());
    }
}
