//! A connection in replication mode: start-up, TLS, login, plain queries, and the change into the
//! stream of a slot. It knows frames, not what is in them.

use super::super::config::{Checked, Host, SslMode};
use super::super::failure;
use super::{binding, tls};
use crate::runtime::error::{Code, Error, Result};
use bytes::{Buf, BytesMut};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use rustls::pki_types::ServerName;
use secrecy::ExposeSecret as _;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::fallible_iterator::FallibleIterator as _;
use tokio_rustls::TlsConnector;

/// What every session of this connector has set, so that a value has one text form wherever it is read.
pub(crate) const SESSION: [(&str, &str); 9] = [
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "iso_8601"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("lc_monetary", "C"),
    ("search_path", "pg_catalog"),
    ("statement_timeout", "0"),
];

/// Both directions of a connection, encrypted or not.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A connection in replication mode.
pub(crate) struct Connection {
    stream: Box<dyn Duplex>,
    buffer: BytesMut,
}

/// One row of a plain query, as text.
pub(crate) type TextRow = Vec<Option<String>>;

impl Connection {
    /// Connects and logs in with `replication=database`.
    pub(crate) async fn open(config: &Checked) -> Result<Self> {
        let unreachable = |e: io::Error| {
            Error::new(
                Code::SourceUnreachable,
                "the server does not answer: is it running, and may this machine reach it?",
            )
            .at("server", &config.host)
            .caused_by(e)
        };
        let (stream, binding) = dial(config).await.map_err(unreachable)??;
        let mut connection = Connection { stream, buffer: BytesMut::with_capacity(1 << 16) };
        connection.log_in(config, binding).await?;
        Ok(connection)
    }

    async fn log_in(&mut self, config: &Checked, binding: Option<ChannelBinding>) -> Result<()> {
        let mut parameters =
            vec![("user", &*config.user), ("database", &*config.database), ("replication", "database")];
        parameters.push(("application_name", "driftless"));
        parameters.extend(SESSION);
        self.send(|out| frontend::startup_message(parameters, out)).await?;
        let mut binding = binding;
        loop {
            match self.message().await? {
                Message::AuthenticationOk => {}
                Message::AuthenticationCleartextPassword => {
                    let password = password(config)?;
                    self.send(|out| frontend::password_message(password.as_bytes(), out)).await?;
                }
                Message::AuthenticationMd5Password(body) => {
                    let hash = md5_hash(config.user.as_bytes(), password(config)?.as_bytes(), body.salt());
                    self.send(|out| frontend::password_message(hash.as_bytes(), out)).await?;
                }
                Message::AuthenticationSasl(body) => {
                    let offered: Vec<&str> = body.mechanisms().collect().map_err(broken)?;
                    self.scram(config, &offered, binding.take()).await?;
                }
                Message::ReadyForQuery(_) => return Ok(()),
                Message::ErrorResponse(body) => return Err(failure::response(&body)),
                Message::BackendKeyData(_) | Message::ParameterStatus(_) | Message::NoticeResponse(_) => {}
                _ => {
                    return Err(Error::new(
                        Code::ConfigUnsupported,
                        "the server asks for a login method that is not supported; use scram-sha-256",
                    ));
                }
            }
        }
    }

    async fn scram(&mut self, config: &Checked, offered: &[&str], binding: Option<ChannelBinding>) -> Result<()> {
        let (mechanism, binding) = match binding {
            Some(binding) if offered.contains(&SCRAM_SHA_256_PLUS) => (SCRAM_SHA_256_PLUS, binding),
            // "Could have bound, but was not offered to": the server detects a downgrade by it.
            Some(_) => (SCRAM_SHA_256, ChannelBinding::unrequested()),
            None => (SCRAM_SHA_256, ChannelBinding::unsupported()),
        };
        if !offered.contains(&mechanism) {
            return Err(Error::new(Code::ConfigUnsupported, "the server offers no SASL method that is supported"));
        }
        let mut scram = ScramSha256::new(password(config)?.as_bytes(), binding);
        self.send(|out| frontend::sasl_initial_response(mechanism, scram.message(), out)).await?;
        loop {
            match self.message().await? {
                Message::AuthenticationSaslContinue(body) => {
                    scram.update(body.data()).map_err(broken)?;
                    self.send(|out| frontend::sasl_response(scram.message(), out)).await?;
                }
                Message::AuthenticationSaslFinal(body) => return scram.finish(body.data()).map_err(broken),
                Message::ErrorResponse(body) => return Err(failure::response(&body)),
                _ => return Err(Error::new(Code::Unexpected, "the server left the login half way")),
            }
        }
    }

    /// Runs a command of the replication protocol or an SQL statement, and returns its rows.
    pub(crate) async fn query(&mut self, statement: &str) -> Result<Vec<TextRow>> {
        self.send(|out| frontend::query(statement, out)).await?;
        let mut rows = Vec::new();
        let mut failed = None;
        loop {
            match self.message().await? {
                Message::DataRow(body) => {
                    let ranges: Vec<_> = body.ranges().collect().map_err(broken)?;
                    let cell = |range: Option<std::ops::Range<usize>>| {
                        let bytes = body.buffer().get(range?)?;
                        Some(String::from_utf8_lossy(bytes).into_owned())
                    };
                    rows.push(ranges.into_iter().map(cell).collect());
                }
                Message::ErrorResponse(body) => failed = Some(failure::response(&body)),
                Message::ReadyForQuery(_) => return failed.map_or(Ok(rows), Err),
                _ => {}
            }
        }
    }

    /// Begins a stream; the connection then carries nothing but its frames.
    pub(crate) async fn start(mut self, statement: &str) -> Result<(Box<dyn Duplex>, BytesMut)> {
        self.send(|out| frontend::query(statement, out)).await?;
        loop {
            // `CopyBothResponse` is the one message the general protocol does not know.
            let header = loop {
                if self.buffer.len() >= 5 {
                    break self.buffer.first().copied();
                }
                self.fill().await?;
            };
            if header == Some(b'W') {
                let length = self.buffer.get(1..5).map_or(0, |mut b| b.get_u32() as usize);
                while self.buffer.len() < length + 1 {
                    self.fill().await?;
                }
                self.buffer.advance(length + 1);
                return Ok((self.stream, self.buffer));
            }
            if let Message::ErrorResponse(body) = self.message().await? {
                return Err(failure::response(&body));
            }
        }
    }

    async fn message(&mut self) -> Result<Message> {
        loop {
            if let Some(message) = Message::parse(&mut self.buffer).map_err(broken)? {
                return Ok(message);
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<()> {
        self.buffer.reserve(1 << 16);
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => Err(lost(None)),
            Ok(_) => Ok(()),
            Err(e) => Err(lost(Some(e))),
        }
    }

    async fn send(&mut self, encode: impl FnOnce(&mut BytesMut) -> io::Result<()>) -> Result<()> {
        let mut out = BytesMut::new();
        encode(&mut out).map_err(|e| Error::new(Code::ConfigInvalid, "a setting holds a zero byte").caused_by(e))?;
        self.stream.write_all(&out).await.map_err(|e| lost(Some(e)))?;
        self.stream.flush().await.map_err(|e| lost(Some(e)))
    }
}

type Dialled = (Box<dyn Duplex>, Option<ChannelBinding>);

async fn dial(config: &Checked) -> io::Result<Result<Dialled>> {
    let name = match &config.host {
        Host::Unix(folder) => {
            let path = folder.join(format!(".s.PGSQL.{}", config.port));
            return Ok(Ok((Box::new(UnixStream::connect(path).await?), None)));
        }
        Host::Tcp(name) => name.clone(),
    };
    let mut tcp = TcpStream::connect((name.as_str(), config.port)).await?;
    tcp.set_nodelay(true)?;
    let client = match tls::client(config) {
        Ok(Some(client)) => client,
        Ok(None) => return Ok(Ok((Box::new(tcp), None))),
        Err(e) => return Ok(Err(e)),
    };
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    tcp.write_all(&request).await?;
    if tcp.read_u8().await? != b'S' {
        return Ok(match config.sslmode {
            SslMode::Prefer => Ok((Box::new(tcp), None)),
            _ => Err(Error::new(
                Code::SourceDenied,
                "the server has no TLS, but sslmode demands it; set ssl = on there, or sslmode: disable",
            )),
        });
    }
    let server = ServerName::try_from(name).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
    let stream = match TlsConnector::from(Arc::new(client)).connect(server, tcp).await {
        Ok(stream) => stream,
        // What is wrong with a certificate does not pass by itself; a broken line may.
        Err(e) if e.kind() == io::ErrorKind::InvalidData => {
            let text = "the server's certificate is not trusted; check sslrootcert, the host name and sslmode";
            return Ok(Err(Error::new(Code::SourceDenied, text).at("server", &config.host).caused_by(e)));
        }
        Err(e) => return Err(e),
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|c| c.first());
    let binding = certificate.and_then(|c| binding::end_point(c));
    Ok(Ok((Box::new(stream), binding)))
}

fn password(config: &Checked) -> Result<&str> {
    config.password.as_ref().map(|p| p.expose_secret()).ok_or_else(|| {
        Error::new(Code::SourceDenied, "the server asks for a password, and none is configured; set password:")
            .at("user", &config.user)
    })
}

fn broken(e: io::Error) -> Error {
    Error::new(Code::SourceDenied, "the login failed, or the server broke the protocol").caused_by(e)
}

fn lost(cause: Option<io::Error>) -> Error {
    let error = Error::new(Code::SourceUnreachable, "the connection to the server ended");
    match cause {
        Some(e) => error.caused_by(e),
        None => error,
    }
}
