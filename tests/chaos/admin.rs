//! What an administrator does to a running cluster. Where the client library has no call for it, by
//! Kafka's protocol itself.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use tokio::runtime::Handle;

use crate::cluster::USER;

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// On what a permission is, as the protocol writes it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Resource {
    Topic = 2,
    Group = 3,
    Cluster = 4,
    TransactionalId = 5,
}

/// What it is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation {
    All = 2,
    Read = 3,
    Write = 4,
}

#[derive(Clone, Copy, Debug)]
enum Verdict {
    Deny = 2,
    Allow = 3,
}

/// An operation on everything whose name is this, or begins so.
#[derive(Clone, Debug)]
pub(crate) struct Permission {
    pub(crate) resource: Resource,
    pub(crate) name: String,
    pub(crate) prefixed: bool,
    pub(crate) operation: Operation,
}

pub(crate) struct Admin {
    brokers: Vec<SocketAddr>,
    client: AdminClient<DefaultClientContext>,
    runtime: Handle,
}

impl Admin {
    pub(crate) fn new(addresses: &str, runtime: &Handle) -> Self {
        let client = ClientConfig::new()
            .set("bootstrap.servers", addresses)
            .set("log_level", "0")
            .create()
            .expect("a client");
        let brokers = addresses
            .split(',')
            .map(|one| one.parse().expect("an address"));
        Self {
            brokers: brokers.collect(),
            client,
            runtime: runtime.clone(),
        }
    }

    /// The instances may do everything, until something is withdrawn.
    pub(crate) fn allow_everything(&self) -> Result<(), String> {
        let all = [
            (Resource::Topic, "*"),
            (Resource::Group, "*"),
            (Resource::TransactionalId, "*"),
            (Resource::Cluster, "kafka-cluster"),
        ];
        for (resource, name) in all {
            let permission = Permission {
                resource,
                name: name.to_owned(),
                prefixed: false,
                operation: Operation::All,
            };
            self.ask(CREATE_ACLS, &permission.encode(Verdict::Allow), 8)?;
        }
        Ok(())
    }

    /// Until it is given back.
    pub(crate) fn withdraw(&self, permission: &Permission) -> Result<(), String> {
        self.ask(CREATE_ACLS, &permission.encode(Verdict::Deny), 8)
    }

    pub(crate) fn give_back(&self, permission: &Permission) -> Result<(), String> {
        self.ask(DELETE_ACLS, &permission.encode(Verdict::Deny), 8)
    }

    /// Puts the copies of a partition in another order, and lets the first of them lead.
    pub(crate) fn lead(&self, topic: &str, partition: i32, copies: &[i32]) -> Result<(), String> {
        self.ask(REASSIGN, &reassignment(topic, partition, copies), 4)?;
        let mut elected = vec![0];
        elected.extend(1_i32.to_be_bytes());
        elected.extend(text(topic));
        elected.extend(1_i32.to_be_bytes());
        elected.extend(partition.to_be_bytes());
        elected.extend(milliseconds().to_be_bytes());
        self.ask(ELECT, &elected, 4)
    }

    pub(crate) fn add_partitions(&self, topic: &str, count: usize) -> Result<(), String> {
        let wanted = NewPartitions::new(topic, count);
        let options = options();
        let made = self.client.create_partitions([&wanted], &options);
        let made = self
            .runtime
            .block_on(made)
            .map_err(|error| error.to_string())?;
        made.into_iter().try_for_each(|one| {
            one.map(|_| ())
                .map_err(|(name, code)| format!("{name}: {code:?}"))
        })
    }

    pub(crate) fn delete_topic(&self, topic: &str) -> Result<(), String> {
        let options = options();
        let deleted = self.client.delete_topics(&[topic], &options);
        let deleted = self
            .runtime
            .block_on(deleted)
            .map_err(|error| error.to_string())?;
        deleted.into_iter().try_for_each(|one| {
            one.map(|_| ())
                .map_err(|(name, code)| format!("{name}: {code:?}"))
        })
    }

    /// Asks the first broker that answers; an error is theirs, at `place` in the answer's body.
    fn ask(&self, api: Api, body: &[u8], place: usize) -> Result<(), String> {
        let answer = self
            .brokers
            .iter()
            .find_map(|broker| exchange(*broker, api, body).ok());
        let answer = answer.ok_or("no broker answers")?;
        let code = answer.get(place..place + 2).ok_or("a short answer")?;
        match i16::from_be_bytes([code[0], code[1]]) {
            0 => Ok(()),
            code => Err(format!("{api:?}: error {code}")),
        }
    }
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(PATIENCE))
        .operation_timeout(Some(PATIENCE))
}

fn milliseconds() -> i32 {
    i32::try_from(PATIENCE.as_millis()).unwrap_or(i32::MAX)
}

// --- the protocol

/// A kind of request, and its version.
#[derive(Clone, Copy, Debug)]
struct Api {
    key: i16,
    version: i16,
    /// Whether its header, and that of its answer, ends with tags.
    tagged: bool,
}

const CREATE_ACLS: Api = Api {
    key: 30,
    version: 1,
    tagged: false,
};
const DELETE_ACLS: Api = Api {
    key: 31,
    version: 1,
    tagged: false,
};
const ELECT: Api = Api {
    key: 43,
    version: 1,
    tagged: false,
};
const REASSIGN: Api = Api {
    key: 45,
    version: 0,
    tagged: true,
};

impl Permission {
    /// As the requests that give and take one write it, alone in its list.
    fn encode(&self, verdict: Verdict) -> Vec<u8> {
        let mut bytes = 1_i32.to_be_bytes().to_vec();
        bytes.push(self.resource as u8);
        bytes.extend(text(&self.name));
        bytes.push(if self.prefixed { 4 } else { 3 });
        bytes.extend(text(&format!("User:{USER}")));
        bytes.extend(text("*"));
        bytes.extend([self.operation as u8, verdict as u8]);
        bytes
    }
}

/// Lists and texts are compact here: their length is one more, and every structure ends with tags.
fn reassignment(topic: &str, partition: i32, copies: &[i32]) -> Vec<u8> {
    let compact = |length: usize| u8::try_from(length + 1).expect("a short list");
    let mut bytes = milliseconds().to_be_bytes().to_vec();
    bytes.push(compact(1));
    bytes.push(compact(topic.len()));
    bytes.extend(topic.as_bytes());
    bytes.push(compact(1));
    bytes.extend(partition.to_be_bytes());
    bytes.push(compact(copies.len()));
    bytes.extend(copies.iter().flat_map(|copy| copy.to_be_bytes()));
    bytes.extend([0, 0, 0]);
    bytes
}

/// One request on a connection of its own; the answer's body.
fn exchange(broker: SocketAddr, api: Api, body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut request = Vec::new();
    request.extend(api.key.to_be_bytes());
    request.extend(api.version.to_be_bytes());
    request.extend(0_i32.to_be_bytes());
    request.extend(text("chaos"));
    request.extend(api.tagged.then_some(0));
    request.extend(body);
    let size = i32::try_from(request.len()).expect("a small request");
    let mut stream = TcpStream::connect_timeout(&broker, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE * 2))?;
    stream.write_all(&[&size.to_be_bytes()[..], &request].concat())?;
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(size)).unwrap_or(0)];
    stream.read_exact(&mut answer)?;
    let header = if api.tagged { 5 } else { 4 };
    Ok(answer.split_off(header.min(answer.len())))
}

fn text(text: &str) -> Vec<u8> {
    let size = i16::try_from(text.len()).expect("a short text");
    [&size.to_be_bytes()[..], text.as_bytes()].concat()
}
