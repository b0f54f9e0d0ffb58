//! `redis`: the server answers PING with PONG and, if it has to be a master, reports that role.
//!
//! AUTH, PING and ROLE are sent in one write. Only the part of the protocol (RESP 2) that their replies use is
//! implemented.
use std::net::IpAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::Instant;

use super::{Fault, stream, tls, wrong};
use crate::cluster::{Redis, Role};

/// The most octets that are read of all replies together. The beginning of ROLE's reply is enough.
const LONGEST_REPLIES: usize = 4 * 1024;
/// The reply to AUTH.
const OK: &str = "OK";
/// The reply to PING.
const PONG: &str = "PONG";
/// The first element of ROLE's reply.
const MASTER: &str = "master";
const REPLICA: &str = "slave";

pub(super) async fn ask(redis: &Redis, address: IpAddr, deadline: Instant) -> Result<(), Fault> {
    let stream = stream::connect((address, redis.port).into(), deadline).await?;
    let exchange = async {
        match &redis.tls {
            None => converse(stream, redis).await,
            Some(trust) => {
                let name = redis.host.clone().unwrap_or_else(|| address.to_string());
                converse(tls::handshake(stream, trust, &name).await?, redis).await
            }
        }
    };
    stream::in_time(deadline, exchange).await
}

async fn converse<S>(mut stream: S, redis: &Redis) -> Result<(), Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let requests = requests(redis);
    // A server that refuses the connection says why before it closes. The reply tells more than an error of the write.
    let sent = async {
        stream.write_all(&requests).await?;
        stream.flush().await
    };
    sent.await.ok();
    let mut replies = Replies { stream, unread: Vec::new(), room: LONGEST_REPLIES };
    if redis.password.is_some()
        && replies.reply().await?.map_err(|error| wrong(refusal_of_auth(&error)))? != OK
    {
        return Err(wrong("AUTH: not ok"));
    }
    let quote = |text: &str| stream::quote(text.as_bytes(), &secrets(redis));
    let refused = |error: &str, command| {
        wrong(refusal(error, command).unwrap_or_else(|| format!("{command}: {}", quote(error))))
    };
    match replies.reply().await?.map_err(|error| refused(&error, "PING"))? {
        pong if pong == PONG => {}
        other => return Err(wrong(format!("not pong: {}", quote(&other)))),
    }
    if redis.role == Role::Master {
        match replies.reply().await?.map_err(|error| refused(&error, "ROLE"))?.as_str() {
            MASTER => {}
            REPLICA => return Err(wrong("a replica, not a master")),
            other => return Err(wrong(format!("not a master: {}", quote(other)))),
        }
    }
    Ok(())
}

/// The secrets that no quoted reply may show. A server that does not know AUTH repeats its arguments.
fn secrets(redis: &Redis) -> Vec<&str> {
    let password = redis.password.as_ref().map(|password| password.password.as_str());
    password.into_iter().chain(redis.user.as_deref()).collect()
}

/// All commands, one after another.
fn requests(redis: &Redis) -> Vec<u8> {
    let mut requests = Vec::new();
    if let Some(password) = &redis.password {
        let user = redis.user.as_deref();
        let words: Vec<&str> = ["AUTH"].into_iter().chain(user).chain([password.password.as_str()]).collect();
        command(&words, &mut requests);
    }
    command(&["PING"], &mut requests);
    if redis.role == Role::Master {
        command(&["ROLE"], &mut requests);
    }
    requests
}

/// Appends a command: an array of bulk strings.
fn command(words: &[&str], out: &mut Vec<u8>) {
    out.extend(format!("*{}\r\n", words.len()).bytes());
    for word in words {
        out.extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
    }
}

/// The replies to several commands.
struct Replies<S> {
    stream: S,
    /// The octets that were read and not parsed yet.
    unread: Vec<u8>,
    /// The number of octets that may still be read.
    room: usize,
}

impl<S: AsyncRead + Unpin> Replies<S> {
    /// Reads the next reply and returns its text. An array counts as its first element, a null as an empty text. The
    /// inner error has the text of an error reply.
    async fn reply(&mut self) -> Result<Result<String, String>, Fault> {
        loop {
            let line = self.take_line().await?;
            let text = line.get(1..).unwrap_or_default();
            match line.bytes().next() {
                Some(b'+' | b':') => return Ok(Ok(text.to_owned())),
                Some(b'-') => return Ok(Err(text.to_owned())),
                Some(b'$') => {
                    let Ok(length) = text.parse::<usize>() else { return Ok(Ok(String::new())) };
                    let octets = self.take(length).await?;
                    self.take_line().await?;
                    return Ok(Ok(String::from_utf8_lossy(&octets).into_owned()));
                }
                // The elements follow. The first one is the reply.
                Some(b'*') if text.parse::<usize>().is_ok_and(|elements| elements > 0) => {}
                Some(b'*') => return Ok(Ok(String::new())),
                _ => return Err(wrong("not redis")),
            }
        }
    }

    /// Returns the next octets up to the end of the line, without the line end.
    async fn take_line(&mut self) -> Result<String, Fault> {
        let end = loop {
            if let Some(end) = self.unread.windows(2).position(|two| two == b"\r\n") {
                break end;
            }
            // A server that speaks another protocol may never send this protocol's line end.
            if self.unread.first().is_some_and(|first| !b"+-:$*\r".contains(first)) {
                return Err(wrong("not redis"));
            }
            self.read().await?;
        };
        let mut line = self.take(end + 2).await?;
        line.truncate(end);
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    async fn take(&mut self, count: usize) -> Result<Vec<u8>, Fault> {
        if count > LONGEST_REPLIES {
            return Err(wrong("reply too long"));
        }
        while self.unread.len() < count {
            self.read().await?;
        }
        Ok(self.unread.drain(..count).collect())
    }

    async fn read(&mut self) -> Result<(), Fault> {
        if self.room == 0 {
            return Err(wrong("reply too long"));
        }
        let mut rest = (&mut self.stream).take(self.room as u64);
        let count = rest.read_buf(&mut self.unread).await.map_err(|error| tls::complaint(&error))?;
        self.room -= count;
        if count == 0 { Err(wrong("closed")) } else { Ok(()) }
    }
}

/// Returns in plain words why the server refuses a command. `None`: the reason is not known.
fn refusal(error: &str, command: &str) -> Option<String> {
    let reason = match error.split_whitespace().next()? {
        "LOADING" => "loading its data",
        "MASTERDOWN" => "a replica without its master",
        "NOAUTH" => "it wants a password: set `password-file`",
        "WRONGPASS" => "wrong user or password, or the user is disabled",
        "NOPERM" => {
            return Some(format!("its user may not run {command}: allow +{}", command.to_lowercase()));
        }
        "DENIED" => "protected mode: it takes no connection from other machines",
        _ => return None,
    };
    Some(reason.to_owned())
}

/// The beginnings of ERR replies to AUTH: of Redis up to 5, and of later versions.
const ERRORS_OF_AUTH: [(&str, &str); 5] = [
    ("ERR AUTH <password> called without any password", NO_PASSWORD),
    ("ERR Client sent AUTH, but no password is set", NO_PASSWORD),
    ("ERR invalid password", "wrong password"),
    ("ERR wrong number of arguments", "it knows no users: remove `user`"),
    ("ERR unknown command", "it does not know AUTH"),
];
const NO_PASSWORD: &str = "its default user has no password: remove `password-file`, or set `user`";

/// Returns why the server refuses AUTH. Does not quote any other reply, because the reply may contain the password in
/// any form.
fn refusal_of_auth(error: &str) -> String {
    let known = ERRORS_OF_AUTH.iter().find(|(beginning, _)| error.starts_with(beginning));
    let known = known.map(|(_, reason)| (*reason).to_owned());
    known.or_else(|| refusal(error, "AUTH")).unwrap_or_else(|| "AUTH: refused".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::PasswordFile;
    use std::net::Ipv4Addr;
    use std::time::Duration;
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    const LONG: Duration = Duration::from_secs(20);

    fn plain(port: u16) -> Redis {
        Redis { port, tls: None, host: None, user: None, password: None, role: Role::Any }
    }

    fn with_password(redis: Redis) -> Redis {
        let password = PasswordFile { path: "/etc/dns-xdp/redis".into(), password: "hunter2".to_owned() };
        Redis { password: Some(password), ..redis }
    }

    async fn verdict(redis: &Redis, timeout: Duration) -> Result<(), Fault> {
        ask(redis, Ipv4Addr::LOCALHOST.into(), Instant::now() + timeout).await
    }

    /// Starts a server that reads `octets` and then sends this reply, octet by octet if it is short. Also returns the
    /// octets that it has read.
    async fn server(octets: usize, says: impl Into<Vec<u8>>, hold: Duration) -> (u16, JoinHandle<String>) {
        let says = says.into();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut read = vec![0; octets];
            stream.read_exact(&mut read).await.unwrap();
            for part in says.chunks(if says.len() < 200 { 1 } else { 1000 }) {
                // A client closes the connection when it has read enough.
                stream.write_all(part).await.ok();
            }
            tokio::time::sleep(hold).await;
            String::from_utf8(read).unwrap()
        });
        (port, serving)
    }

    /// The result of a probe of a server that replies this to all commands.
    async fn told(says: &str, change: impl FnOnce(Redis) -> Redis) -> Result<(), Fault> {
        let redis = change(plain(0));
        let (port, _serving) = server(requests(&redis).len(), says, LONG).await;
        verdict(&Redis { port, ..redis }, LONG).await
    }

    fn master(redis: Redis) -> Redis {
        Redis { role: Role::Master, ..redis }
    }

    fn same(redis: Redis) -> Redis {
        redis
    }

    #[test]
    fn the_commands_are_arrays_of_bulk_strings() {
        let text = |redis: &Redis| String::from_utf8(requests(redis)).unwrap();
        assert_eq!(text(&plain(1)), "*1\r\n$4\r\nPING\r\n");
        let named = Redis { user: Some("probe".to_owned()), ..master(with_password(plain(1))) };
        assert_eq!(
            text(&named),
            "*3\r\n$4\r\nAUTH\r\n$5\r\nprobe\r\n$7\r\nhunter2\r\n*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nROLE\r\n"
        );
        assert!(text(&with_password(plain(1))).starts_with("*2\r\n$4\r\nAUTH\r\n$7\r\nhunter2\r\n"));
    }

    #[tokio::test]
    async fn pong_is_a_success_and_so_is_a_master_where_one_is_wanted() {
        assert_eq!(told("+PONG\r\n", same).await, Ok(()));
        assert_eq!(told("$4\r\nPONG\r\n", same).await, Ok(()));
        assert_eq!(told("+OK\r\n+PONG\r\n", with_password).await, Ok(()));
        // The replicas follow. There may be many.
        let role = "+PONG\r\n*3\r\n$6\r\nmaster\r\n:3129659\r\n*1\r\n*3\r\n$9\r\n127.0.0.1";
        assert_eq!(told(role, master).await, Ok(()));
        let replica = "+PONG\r\n*5\r\n$5\r\nslave\r\n$9\r\n127.0.0.1\r\n:6379\r\n";
        assert_eq!(told(replica, master).await, Err(wrong("a replica, not a master")));
        assert_eq!(told(replica, same).await, Ok(()));
        let sentinel = "+PONG\r\n*2\r\n$8\r\nsentinel\r\n*0\r\n";
        assert_eq!(told(sentinel, master).await, Err(wrong("not a master: sentinel")));
    }

    #[tokio::test]
    async fn what_the_server_refuses_is_said_in_plain_words() {
        let loading = "-LOADING Redis is loading the dataset in memory\r\n";
        assert_eq!(told(loading, same).await, Err(wrong("loading its data")));
        let down = "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n";
        assert_eq!(told(down, same).await, Err(wrong("a replica without its master")));
        let denied = "-DENIED Redis is running in protected mode because protected mode is enabled\r\n";
        assert_eq!(
            told(denied, same).await,
            Err(wrong("protected mode: it takes no connection from other machines"))
        );
        let no_auth = "-NOAUTH Authentication required.\r\n";
        assert_eq!(told(no_auth, same).await, Err(wrong("it wants a password: set `password-file`")));
        let wrong_pass =
            format!("-WRONGPASS invalid username-password pair or user is disabled.\r\n{no_auth}");
        assert_eq!(
            told(&wrong_pass, with_password).await,
            Err(wrong("wrong user or password, or the user is disabled"))
        );
        let no_permission = "+PONG\r\n-NOPERM this user has no permissions to run the 'role' command\r\n";
        assert_eq!(told(no_permission, master).await, Err(wrong("its user may not run ROLE: allow +role")));
        let none = "-ERR AUTH <password> called without any password configured for the default user.\r\n";
        assert_eq!(
            told(none, with_password).await,
            Err(wrong("its default user has no password: remove `password-file`, or set `user`"))
        );
        assert_eq!(told("+HELLO\r\n", same).await, Err(wrong("not pong: HELLO")));
    }

    #[tokio::test]
    async fn what_repeats_the_password_is_not_quoted() {
        let named = |redis| Redis { user: Some("probe".to_owned()), ..master(with_password(redis)) };
        let auth = String::from_utf8(requests(&named(plain(0)))).unwrap();
        let repeats = [
            "-ERR unknown command 'AUTH', with args beginning with: 'probe' 'hunter2'\r\n",
            "-hunter2\r\n",
            "+hunter2\r\n",
            "$7\r\nhunter2\r\n",
            // An echo server.
            &auth,
            "+OK\r\n-probe hunter2\r\n",
            "+OK\r\n+hunter2\r\n",
            "+OK\r\n$14\r\nprobe\thunter2 \r\n",
            "+OK\r\n+PONG\r\n-ERR what is hunter2\r\n",
            "+OK\r\n+PONG\r\n+probe hunter2\r\n",
        ];
        for says in repeats {
            let fault = told(says, named).await.unwrap_err();
            let shown = format!("{fault:?}");
            assert!(!shown.contains("hunter2") && !shown.contains("probe"), "{says}: {shown}");
        }
        let unknown = "-ERR unknown command 'AUTH', with args beginning with: 'hunter2'\r\n";
        assert_eq!(told(unknown, with_password).await, Err(wrong("it does not know AUTH")));
        assert_eq!(told("-ERR invalid password\r\n", with_password).await, Err(wrong("wrong password")));
        assert_eq!(told("-ERR\r\n", with_password).await, Err(wrong("AUTH: refused")));
        let other = "+OK\r\n-ERR not hunter2\r\n";
        assert_eq!(told(other, with_password).await, Err(wrong("PING: ERR not …")));
    }

    #[tokio::test]
    async fn a_server_that_talks_otherwise_is_visible() {
        assert_eq!(told("HTTP/1.1 400 Bad Request\r\n", same).await, Err(wrong("not redis")));
        assert_eq!(
            told("220 mail", same).await,
            Err(wrong("not redis")),
            "it does not wait for the line's end"
        );
        let (closing, _) = server(0, "", Duration::ZERO).await;
        let verdict_of_closing = verdict(&plain(closing), LONG).await;
        assert!(
            [Err(wrong("closed")), Err(wrong("reset"))].contains(&verdict_of_closing),
            "{verdict_of_closing:?}"
        );
        let (silent, _) = server(0, "", LONG).await;
        assert_eq!(verdict(&plain(silent), Duration::from_millis(200)).await, Err(wrong("timeout")));
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        assert_eq!(verdict(&plain(closed), LONG).await, Err(wrong("refused")));
    }

    #[tokio::test]
    async fn replies_are_read_to_a_limit() {
        let too_long = Err(wrong("reply too long"));
        assert_eq!(told(&format!("+{}", "x".repeat(2 * LONGEST_REPLIES)), same).await, too_long);
        assert_eq!(told("$18446744073709551615\r\n", same).await, too_long);
        assert_eq!(told(&"*1\r\n".repeat(LONGEST_REPLIES), same).await, too_long);
        assert_eq!(told("$-1\r\n", same).await, Err(wrong("not pong: ")));
        assert_eq!(told("*-1\r\n", same).await, Err(wrong("not pong: ")));
    }

    #[tokio::test]
    async fn the_commands_arrive_in_one_piece() {
        let redis = master(with_password(plain(0)));
        let expected = String::from_utf8(requests(&redis)).unwrap();
        let says = "+OK\r\n+PONG\r\n*1\r\n$6\r\nmaster\r\n";
        let (port, serving) = server(expected.len(), says, Duration::ZERO).await;
        assert_eq!(verdict(&Redis { port, ..redis }, LONG).await, Ok(()));
        assert_eq!(serving.await.unwrap(), expected);
    }
}
