//! The gRPC calls to one member of etcd: its endpoint, its token, and one function for each call.
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hyper::http::uri::{InvalidUri, PathAndQuery};
use prost::Message;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{self, Sender};
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::metadata::AsciiMetadataValue;
use tonic::metadata::errors::InvalidMetadataValue;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::messages::{
    AuthenticateRequest, AuthenticateResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest,
    LeaseKeepAliveResponse, LeaseRevokeRequest, LeaseRevokeResponse, RangeRequest, RangeResponse, TxnRequest,
    TxnResponse, WatchCreateRequest, WatchRequest, WatchResponse,
};

/// The largest message of a member, in octets: everything below the prefix of a cluster of any size. The library's own
/// limit is 4 MiB.
const LARGEST_MESSAGE: usize = 256 * 1024 * 1024;

/// How long a connection is silent before it is pinged. It has to be well above the 5 s of etcd's
/// `--grpc-keepalive-min-time`, because etcd closes idle connections that are pinged more often. Calls have timeouts of
/// their own, so they detect a dead connection earlier.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// A member that is cut off from the leader refuses a call with this metadata, and ends a watch.
const REQUIRE_LEADER: &str = "hasleader";
/// The metadata with the token.
const TOKEN: &str = "token";
/// etcd's message about a token that has expired. A proxy of etcd passes the message on and loses the code.
const INVALID_TOKEN: &str = "etcdserver: invalid auth token";

/// How a connection is made.
pub(in crate::store) struct ConnectOptions {
    /// The most time for the TCP connection.
    pub(in crate::store) connect_timeout: Duration,
    /// `None`: the endpoint is http.
    pub(in crate::store) tls: Option<ClientTlsConfig>,
    /// A name and a password.
    pub(in crate::store) user: Option<(String, String)>,
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum RpcError {
    /// The member refused, or the connection failed.
    #[error(transparent)]
    Status(#[from] Status),
    /// The TLS configuration is not usable.
    #[error(transparent)]
    Transport(#[from] tonic::transport::Error),
    #[error("invalid uri: {0}")]
    Uri(#[from] InvalidUri),
    #[error("the token is not usable as metadata: {0}")]
    Token(#[from] InvalidMetadataValue),
    #[error("lease not found")]
    LeaseNotFound,
    #[error("the member ended the renewal of the lease")]
    Ended,
}

/// A connection to one member. Clones share it.
#[derive(Clone)]
pub(super) struct Client {
    channel: Channel,
    user: Option<Arc<User>>,
}

impl Client {
    /// Connects at the first call, which logs the user in if there is one.
    pub(super) async fn connect(endpoint: &str, options: ConnectOptions) -> Result<Client, RpcError> {
        let mut endpoint = Endpoint::from(endpoint.parse::<hyper::Uri>()?)
            .connect_timeout(options.connect_timeout)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            // Without a call or a watch, etcd allows one ping in two hours.
            .keep_alive_while_idle(false);
        if let Some(tls) = options.tls {
            endpoint = endpoint.tls_config(tls)?;
        }
        let user = options.user.map(|(name, password)| Arc::new(User::new(name, password)));
        let client = Client { channel: endpoint.connect_lazy(), user };
        if let Some(user) = &client.user {
            user.renew_token(&client.channel, None).await?;
        }
        Ok(client)
    }

    pub(super) async fn range(&self, request: RangeRequest) -> Result<RangeResponse, RpcError> {
        self.call("/etcdserverpb.KV/Range", request).await
    }

    pub(super) async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, RpcError> {
        self.call("/etcdserverpb.KV/Txn", request).await
    }

    pub(super) async fn watch(&self, request: WatchCreateRequest) -> Result<WatchStream, RpcError> {
        self.stream("/etcdserverpb.Watch/Watch", WatchRequest { create_request: Some(request) }).await
    }

    pub(super) async fn grant_lease(&self, ttl_seconds: i64) -> Result<LeaseGrantResponse, RpcError> {
        self.call("/etcdserverpb.Lease/LeaseGrant", LeaseGrantRequest { ttl_seconds }).await
    }

    pub(super) async fn keep_lease_alive(&self, id: i64) -> Result<(), RpcError> {
        let request = LeaseKeepAliveRequest { id };
        let mut stream: Stream<_, LeaseKeepAliveResponse> =
            self.stream("/etcdserverpb.Lease/LeaseKeepAlive", request).await?;
        let response = stream.message().await?.ok_or(RpcError::Ended)?;
        if response.ttl_seconds > 0 { Ok(()) } else { Err(RpcError::LeaseNotFound) }
    }

    pub(super) async fn revoke_lease(&self, id: i64) -> Result<LeaseRevokeResponse, RpcError> {
        self.call("/etcdserverpb.Lease/LeaseRevoke", LeaseRevokeRequest { id }).await
    }

    /// A request and its response.
    async fn call<Q, A>(&self, path: &'static str, request: Q) -> Result<A, RpcError>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        self.with_token(|token| unary(self.channel.clone(), token, path, request.clone())).await
    }

    /// A stream in both directions that begins with a request.
    async fn stream<Q, A>(&self, path: &'static str, request: Q) -> Result<Stream<Q, A>, RpcError>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        self.with_token(|token| streaming(self.channel.clone(), token, path, request.clone())).await
    }

    /// Makes a call with the user's token. A token that has expired is renewed, and the call is made once more.
    async fn with_token<T, F>(&self, call: impl Fn(Option<AsciiMetadataValue>) -> F) -> Result<T, RpcError>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let Some(user) = &self.user else { return Ok(call(None).await?) };
        let token = user.token();
        match call(token.clone()).await {
            Err(status) if has_expired(&status) => {
                user.renew_token(&self.channel, token).await?;
                Ok(call(user.token()).await?)
            }
            answered => Ok(answered?),
        }
    }
}

fn has_expired(status: &Status) -> bool {
    match status.code() {
        Code::Unauthenticated => true,
        Code::Unknown => status.message() == INVALID_TOKEN,
        _ => false,
    }
}

/// A user of etcd and its token.
struct User {
    name: String,
    password: String,
    token: RwLock<Option<AsciiMetadataValue>>,
    /// Held by the call that renews the token.
    renewal: Mutex<()>,
}

impl User {
    fn new(name: String, password: String) -> User {
        User { name, password, token: RwLock::new(None), renewal: Mutex::new(()) }
    }

    fn token(&self) -> Option<AsciiMetadataValue> {
        self.token.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Logs in, unless another call has done so since the token `expired` was read.
    async fn renew_token(
        &self,
        channel: &Channel,
        expired: Option<AsciiMetadataValue>,
    ) -> Result<(), RpcError> {
        let _renewal = self.renewal.lock().await;
        if self.token() != expired {
            return Ok(());
        }
        let request = AuthenticateRequest { name: self.name.clone(), password: self.password.clone() };
        let response: AuthenticateResponse =
            unary(channel.clone(), None, "/etcdserverpb.Auth/Authenticate", request).await?;
        let token = response.token.parse()?;
        *self.token.write().unwrap_or_else(PoisonError::into_inner) = Some(token);
        Ok(())
    }
}

/// The stream of a watch.
pub(super) type WatchStream = Stream<WatchRequest, WatchResponse>;

/// A stream of messages in both directions. Dropping it ends both.
pub(super) struct Stream<Q, A> {
    responses: Streaming<A>,
    /// The requests end when this is dropped.
    _requests: Sender<Q>,
}

impl<Q, A> Stream<Q, A> {
    /// The member's next message; `None`: the member has ended the stream.
    pub(super) async fn message(&mut self) -> Result<Option<A>, Status> {
        self.responses.message().await
    }
}

async fn unary<Q, A>(
    channel: Channel,
    token: Option<AsciiMetadataValue>,
    path: &'static str,
    request: Q,
) -> Result<A, Status>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    let mut grpc = ready(channel).await?;
    let codec = ProstCodec::<Q, A>::default();
    let response = grpc.unary(with_metadata(request, token), PathAndQuery::from_static(path), codec).await?;
    Ok(response.into_inner())
}

async fn streaming<Q, A>(
    channel: Channel,
    token: Option<AsciiMetadataValue>,
    path: &'static str,
    request: Q,
) -> Result<Stream<Q, A>, Status>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    let (requests, receiver) = mpsc::channel(1);
    requests.send(request).await.map_err(|_closed| Status::internal("the stream has no receiver"))?;
    let outgoing = with_metadata(ReceiverStream::new(receiver), token);
    let mut grpc = ready(channel).await?;
    let codec = ProstCodec::<Q, A>::default();
    let response = grpc.streaming(outgoing, PathAndQuery::from_static(path), codec).await?;
    Ok(Stream { responses: response.into_inner(), _requests: requests })
}

/// Waits for the connection.
async fn ready(channel: Channel) -> Result<Grpc<Channel>, Status> {
    let mut grpc = Grpc::new(channel).max_decoding_message_size(LARGEST_MESSAGE);
    grpc.ready().await.map_err(|error| Status::unknown(format!("service was not ready: {error}")))?;
    Ok(grpc)
}

fn with_metadata<T>(content: T, token: Option<AsciiMetadataValue>) -> Request<T> {
    let mut request = Request::new(content);
    let metadata = request.metadata_mut();
    metadata.insert(REQUIRE_LEADER, AsciiMetadataValue::from_static("true"));
    if let Some(token) = token {
        metadata.insert(TOKEN, token);
    }
    request
}
