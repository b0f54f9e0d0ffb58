//! The keys of `probe = "redis"`.
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use toml::de::DeValue;

use super::super::field::{self, Read};
use super::super::table_reader::TableReader;
use super::super::unreadable;
use super::{REDIS_PORT, host, trust};
use crate::cluster::{PasswordFile, ProbeKind, Redis, Role, Trust};

const ROLES: [(&str, Role); 2] = [("any", Role::Any), ("master", Role::Master)];
/// The most octets of a password file.
const LONGEST_PASSWORD: u64 = 1024;

pub(super) fn redis(section: &mut TableReader<'_>, usual: &ProbeKind) -> ProbeKind {
    let usual = match usual {
        ProbeKind::Redis(redis) => redis.clone(),
        _ => Redis { port: REDIS_PORT, tls: None, host: None, user: None, password: None, role: Role::Any },
    };
    let tls = section.value("tls", field::boolean).unwrap_or(usual.tls.is_some());
    if !tls {
        let is_true = |value: &DeValue<'_>| value.as_bool() == Some(true);
        section
            .without_effect(&[("ca", |_| false), ("verify", is_true), ("host", |_| false)], "`tls = true`");
    }
    let password = section.value("password-file", password_file).or(usual.password);
    if password.is_none() && !section.has("password-file") {
        section.without_effect(&[("user", |_| false)], "`password-file`");
    }
    ProbeKind::Redis(Redis {
        port: section.value("port", field::port).unwrap_or(usual.port),
        tls: tls.then(|| trust(section, usual.tls.unwrap_or(Trust::System))),
        host: if tls { section.value("host", host).or(usual.host) } else { None },
        user: section.value("user", user).or(usual.user),
        password,
        role: section.value("role", |value| field::one_of(value, &ROLES)).unwrap_or(usual.role),
    })
}

fn user(value: &DeValue<'_>) -> Read<String> {
    let text = field::text(value, "the name of a user")?;
    if text.is_empty() {
        return Err("is empty; write the name of a user, or leave it out for the default user".to_owned());
    }
    Ok(text.to_owned())
}

/// Reads a password file. No error shows the password.
fn password_file(value: &DeValue<'_>) -> Read<PasswordFile> {
    let path: PathBuf = field::path(value)?;
    let shown = path.display();
    let mut octets = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(LONGEST_PASSWORD + 1).read_to_end(&mut octets));
    read.map_err(|error| format!("is {shown}, which cannot be read: {}", unreadable(&error)))?;
    if octets.len() as u64 > LONGEST_PASSWORD {
        return Err(format!(
            "is {shown}, which has more than {LONGEST_PASSWORD} octets; write one line with the password"
        ));
    }
    let text = String::from_utf8(octets).map_err(|_| format!("is {shown}, which is no text in UTF-8"))?;
    match text.lines().next() {
        Some(password) if !password.is_empty() => Ok(PasswordFile { password: password.to_owned(), path }),
        _ => Err(format!("is {shown}, whose first line is empty; write the password into it")),
    }
}
