//! A client that speaks HTTP/2, by the library's other half.

use crate::house::{House, PIPE};
use crate::wire::{CHAT, Upstream};
use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request};
use std::time::Duration;
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;

/// A connection.
pub(crate) struct Web {
    ask: SendRequest<Bytes>,
    /// Ends with the connection; says why.
    pub(crate) wire: JoinHandle<Result<(), h2::Error>>,
    served: JoinHandle<()>,
}

/// An answer under way.
pub(crate) struct Coming {
    head: ResponseFuture,
    /// The request's body, where more of it can be sent.
    pub(crate) body: SendStream<Bytes>,
}

/// An answer whose head has come.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: HeaderMap,
    pub(crate) body: RecvStream,
    /// Keeps the request from being taken back.
    pub(crate) sent: SendStream<Bytes>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) status: u16,
    pub(crate) fields: HeaderMap,
    pub(crate) text: String,
}

impl Web {
    /// Connects with windows of the usual size.
    pub(crate) async fn connect(house: &House) -> Self {
        Self::connect_with(house, &Builder::new(), PIPE).await
    }

    pub(crate) async fn connect_with(house: &House, builder: &Builder, room: usize) -> Self {
        let (near, far) = tokio::io::duplex(room);
        let served = house.serve(crate::house::plain(far));
        Self::over(near, served, builder).await
    }

    /// As [`Web::connect`], but what the gate says takes so long to the client.
    pub(crate) async fn connect_far(house: &House, lag: Duration) -> Self {
        let (near, relay) = tokio::io::duplex(PIPE);
        let (gate, far) = tokio::io::duplex(PIPE);
        let (mut up, mut down) = tokio::io::split(relay);
        let (mut from_gate, mut to_gate) = tokio::io::split(gate);
        tokio::task::spawn_local(async move { tokio::io::copy(&mut up, &mut to_gate).await });
        tokio::task::spawn_local(async move {
            tokio::time::sleep(lag).await;
            tokio::io::copy(&mut from_gate, &mut down).await
        });
        let served = house.serve(crate::house::plain(far));
        Self::over(near, served, &Builder::new()).await
    }

    async fn over(near: DuplexStream, served: JoinHandle<()>, builder: &Builder) -> Self {
        let (ask, wire) = builder.handshake(near).await.unwrap();
        Self { ask, wire: tokio::task::spawn_local(wire), served }
    }

    /// Sends the head of a request.
    pub(crate) async fn open(&mut self, head: http::request::Builder, is_whole: bool) -> Coming {
        self.try_open(head, is_whole).await.unwrap()
    }

    pub(crate) async fn try_open(
        &mut self,
        head: http::request::Builder,
        is_whole: bool,
    ) -> Result<Coming, h2::Error> {
        std::future::poll_fn(|cx| self.ask.poll_ready(cx)).await?;
        let (head, body) = self.ask.send_request(head.body(()).unwrap(), is_whole)?;
        Ok(Coming { head, body })
    }

    /// Sends a request with a whole body.
    pub(crate) async fn send(&mut self, head: http::request::Builder, body: &str) -> Coming {
        let mut coming = self.open(head, body.is_empty()).await;
        if !body.is_empty() {
            coming.body.send_data(Bytes::copy_from_slice(body.as_bytes()), true).unwrap();
        }
        coming
    }

    /// Sends a chat with the house's key; its upstream, which has been asked nothing yet.
    pub(crate) async fn chat(&mut self, house: &House) -> (Coming, Upstream) {
        let coming = self.send(request("POST", "/api/chat", &house.key), CHAT).await;
        (coming, house.accept(0).await)
    }

    /// Sends a request and takes its whole answer.
    pub(crate) async fn ask(&mut self, head: http::request::Builder, body: &str) -> Whole {
        self.send(head, body).await.head().await.whole().await
    }

    /// Closes the connection, and waits until the gate has ended it.
    pub(crate) async fn leave(self) {
        self.wire.abort();
        drop(self.ask);
        let _ended = self.wire.await;
        self.served.await.unwrap();
    }

    /// The gate has ended the connection: the reason that it gave, if it gave one.
    pub(crate) async fn closed(&mut self) -> Option<Reason> {
        let ended = (&mut self.wire).await.unwrap();
        ended.err().and_then(|error| error.reason())
    }

    /// Ends the gate's task from outside, as the end of the program does.
    pub(crate) fn end_task(&self) {
        self.served.abort();
    }
}

impl Coming {
    pub(crate) async fn head(self) -> Answer {
        self.try_head().await.unwrap()
    }

    pub(crate) async fn try_head(self) -> Result<Answer, h2::Error> {
        let (head, body) = self.head.await?.into_parts();
        Ok(Answer { status: head.status.as_u16(), fields: head.headers, body, sent: self.body })
    }

    /// Takes the request back.
    pub(crate) fn reset(mut self) {
        self.body.send_reset(Reason::CANCEL);
    }
}

impl Answer {
    /// The next data; none at the end, and the reason where it breaks off.
    pub(crate) async fn some(&mut self) -> Result<Option<String>, Option<Reason>> {
        match self.body.data().await {
            None => Ok(None),
            Some(Ok(data)) => {
                self.body.flow_control().release_capacity(data.len()).unwrap();
                Ok(Some(String::from_utf8(data.to_vec()).unwrap()))
            }
            Some(Err(error)) => Err(error.reason()),
        }
    }

    /// Exactly this comes next.
    pub(crate) async fn expect(&mut self, text: &str) {
        let mut came = String::new();
        while came.len() < text.len() {
            came += &self.some().await.unwrap().expect("the answer ended");
        }
        assert_eq!(came, text);
    }

    pub(crate) async fn whole(mut self) -> Whole {
        let mut text = String::new();
        while let Some(more) = self.some().await.unwrap() {
            text += &more;
        }
        Whole { status: self.status, fields: self.fields, text }
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(|value| value.to_str().unwrap())
    }

    /// Takes the request back.
    pub(crate) fn reset(mut self) {
        self.sent.send_reset(Reason::CANCEL);
    }
}

impl Whole {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        assert!(self.fields.get_all(name).iter().count() < 2, "{name} stands twice in {:?}", self.fields);
        self.fields.get(name).map(|value| value.to_str().unwrap())
    }
}

/// The head of a request.
pub(crate) fn request(method: &str, path: &str, key: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(format!("http://gate{path}"))
        .header("authorization", format!("Bearer {key}"))
        .header("x-request-id", "t-1")
}
