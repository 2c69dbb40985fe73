//! The stream as this engine needs it: made where it is missing, checked where it is there, and whether who says that it
//! leads the stream still does.

use std::collections::HashMap;
use std::fmt::Display;
use std::time::Duration;

use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, StorageType};
use async_nats::jetstream::{Context, Error, ErrorCode};

use super::connect::Hindrance;
use super::message::Subjects;
use super::settings::NatsSettings;

/// The form of the stream that this version writes, kept in what NATS stores along with the stream.
const FORMAT: &str = "1";
const FORMAT_NAME: &str = "postern-format";
/// The log's epoch, kept there too.
const EPOCH_NAME: &str = "postern-epoch";
/// How long ago a leader may have heard of a server that counts for it. It hears of each once a second; and for four
/// seconds after they heard of it, the others choose no new one.
const HEARD: Duration = Duration::from_secs(3);

/// The stream as it is to be.
fn wanted(settings: &NatsSettings) -> Config {
    Config {
        name: settings.stream.clone(),
        description: Some("Postern: values, events and their places".to_owned()),
        subjects: vec![Subjects::new(&settings.stream).all().to_owned()],
        max_messages_per_subject: 1,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        num_replicas: settings.replicas,
        allow_direct: true,
        allow_atomic_publish: true,
        allow_message_ttl: true,
        ..Config::default()
    }
}

/// Gives what there is of the stream; makes it where it is missing, if it may.
pub(super) async fn open(context: &Context, settings: &NatsSettings, make: bool) -> Result<Info, Hindrance> {
    let found = match find(context, &settings.stream).await {
        Err(Sought::Missing) if make => create(context, settings).await?,
        Err(Sought::Missing) => return Err(Hindrance::Lasting("there is no such stream".to_owned())),
        Err(Sought::Hindered(hindrance)) => return Err(hindrance),
        Ok(found) => found,
    };
    check(&found.config, &wanted(settings)).map_err(Hindrance::Lasting)?;
    leads(&found).map_err(|problem| Hindrance::ForNow(problem.to_owned()))?;
    Ok(found)
}

/// Why a stream was not found.
enum Sought {
    Missing,
    Hindered(Hindrance),
}

async fn find(context: &Context, name: &str) -> Result<Info, Sought> {
    match context.get_stream(name).await {
        Ok(stream) => Ok(stream.cached_info().clone()),
        Err(error) => Err(match error.kind() {
            GetStreamErrorKind::JetStream(refusal) if refusal.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                Sought::Missing
            }
            GetStreamErrorKind::JetStream(refusal) => Sought::Hindered(refused(&refusal)),
            _ => Sought::Hindered(Hindrance::ForNow(without(&error))),
        }),
    }
}

async fn create(context: &Context, settings: &NatsSettings) -> Result<Info, Hindrance> {
    let epoch = format!("{:016x}", fastrand::u64(..));
    let metadata = [(FORMAT_NAME, FORMAT.to_owned()), (EPOCH_NAME, epoch)];
    let metadata: HashMap<_, _> = metadata.map(|(name, value)| (name.to_owned(), value)).into();
    let error = match context.create_stream(Config { metadata, ..wanted(settings) }).await {
        Ok(stream) => return Ok(stream.cached_info().clone()),
        Err(error) => error,
    };
    match error.kind() {
        // Another gateway was quicker.
        CreateStreamErrorKind::JetStream(refusal) if refusal.error_code() == ErrorCode::STREAM_NAME_EXIST => {
            find(context, &settings.stream).await.map_err(|sought| match sought {
                Sought::Missing => Hindrance::ForNow("the stream is there and is not".to_owned()),
                Sought::Hindered(hindrance) => hindrance,
            })
        }
        CreateStreamErrorKind::JetStream(refusal) => Err(refused(&refusal)),
        CreateStreamErrorKind::TimedOut | CreateStreamErrorKind::JetStreamUnavailable => {
            Err(Hindrance::ForNow(without(&error)))
        }
        _ => Err(Hindrance::Lasting(format!("the stream cannot be made: {error}"))),
    }
}

fn without(error: &dyn Display) -> String {
    format!("JetStream cannot be used: {error}")
}

/// What a refusal of JetStream's means for one who can wait.
fn refused(refusal: &Error) -> Hindrance {
    const UNAVAILABLE: usize = 503;
    let code = refusal.error_code();
    let is_off =
        [ErrorCode::JETSTREAM_NOT_ENABLED, ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT].contains(&code);
    // Servers are missing that the stream's messages should be kept by.
    let lacks_servers = [ErrorCode::CLUSTER_NO_PEERS, ErrorCode::CLUSTER_NOT_LEADER].contains(&code);
    if !is_off && (refusal.code() == UNAVAILABLE || lacks_servers) {
        Hindrance::ForNow(without(refusal))
    } else {
        Hindrance::Lasting(without(refusal))
    }
}

/// The epoch of a stream. `None`: it is none of Postern's.
pub(super) fn epoch(config: &Config) -> Option<u64> {
    config.metadata.get(EPOCH_NAME).and_then(|epoch| u64::from_str_radix(epoch, 16).ok())
}

/// Whether who tells of a stream leads it: one that was cut off from the others goes on saying so for some seconds, and
/// knows nothing of what they acknowledge meanwhile.
pub(super) fn leads(found: &Info) -> Result<(), &'static str> {
    // One server alone.
    let Some(cluster) = &found.cluster else { return Ok(()) };
    if cluster.leader.is_none() {
        return Err("the stream has no leader for now");
    }
    let heard = cluster.replicas.iter().filter(|peer| {
        // Nothing was heard yet of one that is said to be active right now.
        !peer.offline && !peer.active.is_zero() && peer.active < HEARD
    });
    if 2 * (1 + heard.count()) > 1 + cluster.replicas.len() {
        Ok(())
    } else {
        Err("the stream's leader does not hear most of its servers for now")
    }
}

/// Whether a stream is as it is to be. What it may differ in is left to whoever runs NATS.
fn check(found: &Config, wanted: &Config) -> Result<(), String> {
    let format = found.metadata.get(FORMAT_NAME).map(String::as_str);
    match format {
        Some(FORMAT) => {}
        Some(newer) => {
            return Err(format!("a newer version made the stream: its form is {newer}, expected {FORMAT}"));
        }
        None => return Err("the stream is another program's: expected one of Postern's".to_owned()),
    }
    let is = |setting: &str, is: bool| match is {
        true => Ok(()),
        false => Err(format!("the stream's {setting} was changed: expected as Postern makes it")),
    };
    is("subjects", found.subjects == wanted.subjects)?;
    is("max_msgs_per_subject", found.max_messages_per_subject == 1)?;
    is("allow_atomic", found.allow_atomic_publish)?;
    is("allow_msg_ttl", found.allow_message_ttl)?;
    is("allow_direct", found.allow_direct)?;
    is("storage", found.storage == StorageType::File)?;
    is("max_msgs", found.max_messages <= 0)?;
    is("max_bytes", found.max_bytes <= 0)?;
    is("max_age", found.max_age.is_zero())?;
    is("sources", found.sources.is_none() && found.mirror.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(cluster: &serde_json::Value) -> Result<(), &'static str> {
        let info = serde_json::json!({
            "config": { "name": "postern", "subjects": [], "retention": "limits", "storage": "file", "discard": "old",
                "num_replicas": 3, "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "max_age": 0 },
            "created": "2026-01-01T00:00:00Z",
            "state": { "messages": 0, "bytes": 0, "first_seq": 0, "first_ts": "2026-01-01T00:00:00Z", "last_seq": 0,
                "last_ts": "2026-01-01T00:00:00Z", "consumer_count": 0 },
            "cluster": cluster,
        });
        leads(&serde_json::from_value(info).unwrap())
    }

    fn peer(active: Duration) -> serde_json::Value {
        let active = u64::try_from(active.as_nanos()).unwrap();
        serde_json::json!({ "name": "n", "current": true, "active": active })
    }

    #[test]
    fn a_leader_leads_as_long_as_it_hears_most_of_its_servers() {
        let (near, far, never) = (peer(HEARD / 2), peer(2 * HEARD), peer(Duration::ZERO));
        let led_by = |peers: &[&serde_json::Value]| {
            told(&serde_json::json!({ "leader": "n0", "replicas": peers })).is_ok()
        };
        assert!(led_by(&[]) && led_by(&[&near, &near]) && led_by(&[&near, &far]) && led_by(&[&near, &never]));
        assert!(!led_by(&[&far, &far]) && !led_by(&[&far, &never]) && !led_by(&[&never, &never]));
        assert!(led_by(&[&near, &near, &far, &far]) && !led_by(&[&near, &far, &far, &far]));
        assert!(told(&serde_json::json!({ "replicas": [near, near, near] })).is_err());
        assert!(told(&serde_json::Value::Null).is_ok());
    }
}
