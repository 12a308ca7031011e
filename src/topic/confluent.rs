//! Schemas in a Confluent-compatible registry: the ids in the messages are the registry's, so that any
//! consumer with a registry's deserializer reads them. What was asked once is never asked again. A
//! registry that is away is waited for; what it refuses stops the dataset, with its own words.

use super::registry::{Schemas, unknown};
use crate::event::SchemaId;
use crate::event::avro::Forms;
use crate::runtime::error::{Code, Error, Result};
use async_trait::async_trait;
use schema_registry_converter::async_impl::schema_registry::{SrSettings, get_schema_by_id, post_schema};
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{RawError, SchemaType, SuppliedSchema};
use serde_json::Value as Json;
use std::sync::Arc;
use std::time::Duration;

/// How long a call may take.
const CALL: Duration = Duration::from_secs(10);
/// An id that no registry gives.
const NO_ID: u32 = i32::MAX.unsigned_abs();
/// What registries answer for an id that they do not know: an error of their own, not of the network.
const NOT_FOUND: u32 = 40403;

/// A URL without user and password, and these.
fn taken_apart(url: &str) -> Option<(String, String, Option<String>)> {
    let mut parsed = reqwest::Url::parse(url.trim_end_matches('/')).ok()?;
    if parsed.host_str().is_none() || !["http", "https"].contains(&parsed.scheme()) {
        return None;
    }
    let (user, password) = (plain(parsed.username()), parsed.password().map(plain));
    // Of a URL with a host neither can fail.
    let _ = parsed.set_username("").and_then(|()| parsed.set_password(None));
    Some((parsed.as_str().trim_end_matches('/').to_owned(), user, password))
}

/// A schema registry.
pub struct RegistrySchemas {
    settings: SrSettings,
    /// Without user and password.
    address: String,
    forms: Arc<Forms>,
}

impl RegistrySchemas {
    /// The registry at a URL, which may carry a user and a password. Calls nothing.
    ///
    /// # Errors
    /// `config_invalid` if it is no URL.
    pub fn new(url: &str) -> Result<Self> {
        let invalid = || {
            let text =
                "`log.registry` is not the URL of a schema registry; expected http(s)://[user:password@]host/path";
            Error::new(Code::ConfigInvalid, text)
        };
        let (address, user, password) = taken_apart(url).ok_or_else(invalid)?;
        let mut builder = SrSettings::new_builder(address.clone());
        builder.set_timeout(CALL);
        if !user.is_empty() {
            builder.set_basic_authorization(&user, password.as_deref());
        }
        let settings = builder.build().map_err(|error| invalid().caused_by(error))?;
        Ok(RegistrySchemas { settings, address, forms: Arc::default() })
    }

    /// Whether a registry answers there and lets us in.
    ///
    /// # Errors
    /// `registry_unreachable` or `registry_refused`.
    pub async fn check(&self) -> Result<()> {
        match get_schema_by_id(NO_ID, &self.settings).await {
            Ok(_) => Ok(()),
            Err(error) if told(&error).is_some_and(|told| told.error_code == NOT_FOUND) => Ok(()),
            Err(error) => Err(self.failed("the schema registry was asked whether it is there", error)),
        }
    }

    fn failed(&self, doing: &str, error: SRCError) -> Error {
        let said = told(&error).map(|told| told.message.clone()).filter(|text| !text.is_empty());
        let said = said.map_or_else(String::new, |text| format!(": {text}"));
        let (code, advice) = match status(&error) {
            None | Some(408 | 429 | 500..) => (Code::RegistryUnreachable, "it does not answer, or not now"),
            Some(401 | 403) => (
                Code::RegistryRefused,
                "it does not let us in; give user and password in `log.registry`, and the right to read and register",
            ),
            Some(409) => (
                Code::RegistryRefused,
                "the schema is not compatible with the subject's last one; change the column back, or set the \
                 subject's compatibility to NONE",
            ),
            Some(404) if said.is_empty() => (Code::RegistryRefused, "there is no schema registry under this path"),
            Some(_) => (Code::RegistryRefused, "it refused"),
        };
        Error::new(code, format!("{doing}: {advice}{said}")).at("registry", &self.address).caused_by(error)
    }
}

/// What the registry itself said.
fn told(error: &SRCError) -> Option<&RawError> {
    std::error::Error::source(error)?.downcast_ref::<RawError>().filter(|told| told.error_code > 0)
}

/// The status of its answer; `None` if there was none.
fn status(error: &SRCError) -> Option<u16> {
    let (_, text) = error.error.split_once("with status ")?;
    text.get(..3)?.parse().ok()
}

/// A part of a URL as it was meant.
fn plain(part: &str) -> String {
    let mut out = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let [first, more @ ..] = rest {
        let code = match (first, more) {
            (b'%', [high, low, ..]) => {
                let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
                digit(*high).zip(digit(*low)).map(|(high, low)| high << 4 | low)
            }
            _ => None,
        };
        out.push(code.unwrap_or(*first));
        rest = if code.is_some() { more.get(2..).unwrap_or_default() } else { more };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Registries write schemas in their own way: names relative to a namespace. Ours are whole.
fn qualified(text: &str) -> String {
    match serde_json::from_str::<Json>(text) {
        Ok(mut json) => {
            qualify(&mut json, "");
            json.to_string()
        }
        Err(_) => text.to_owned(),
    }
}

/// Makes the names whole in a type within a namespace.
fn qualify(ty: &mut Json, namespace: &str) {
    match ty {
        Json::String(name) => *name = full(name, namespace),
        Json::Array(branches) => branches.iter_mut().for_each(|branch| qualify(branch, namespace)),
        Json::Object(map) => {
            let own = map.remove("namespace");
            let outer = own.as_ref().and_then(Json::as_str).unwrap_or(namespace);
            let mut inner = namespace.to_owned();
            if let Some(Json::String(name)) = map.get_mut("name") {
                *name = full(name, outer);
                inner = name.rsplit_once('.').map_or_else(String::new, |(space, _)| space.to_owned());
            }
            for key in ["type", "items", "values"] {
                map.get_mut(key).into_iter().for_each(|ty| qualify(ty, &inner));
            }
            for field in map.get_mut("fields").and_then(Json::as_array_mut).into_iter().flatten() {
                field.get_mut("type").into_iter().for_each(|ty| qualify(ty, &inner));
            }
        }
        _ => {}
    }
}

/// The whole name of a type; those of Avro itself have no namespace.
fn full(name: &str, namespace: &str) -> String {
    let own = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];
    let kinds = ["record", "error", "enum", "array", "map", "fixed"];
    if namespace.is_empty() || name.contains('.') || own.contains(&name) || kinds.contains(&name) {
        return name.to_owned();
    }
    format!("{namespace}.{name}")
}

#[async_trait]
impl Schemas for RegistrySchemas {
    async fn register(&self, subject: &str, text: &str) -> Result<SchemaId> {
        if let Some(id) = self.forms.id_of(text) {
            return Ok(id);
        }
        let schema = SuppliedSchema::new(None, SchemaType::Avro, text.to_owned());
        let registered = post_schema(&self.settings, subject.to_owned(), schema).await;
        let registered = registered
            .map_err(|error| self.failed("a schema could not be registered", error).at("subject", subject))?;
        let id = SchemaId(registered.id);
        self.forms.learn(id, text);
        Ok(id)
    }

    async fn find(&self, id: SchemaId) -> Result<()> {
        if self.forms.text_of(id).is_some() {
            return Ok(());
        }
        match get_schema_by_id(id.0, &self.settings).await {
            Ok(found) => {
                self.forms.learn(id, &qualified(&found.schema));
                Ok(())
            }
            Err(error) if told(&error).is_some_and(|told| told.error_code == NOT_FOUND) => {
                Err(unknown(id).at("registry", &self.address))
            }
            Err(error) => Err(self.failed("a schema could not be read", error).at("schema", id.0)),
        }
    }

    fn forms(&self) -> &Arc<Forms> {
        &self.forms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_are_taken_out_of_the_url() {
        let apart = taken_apart("https://me:p%40ss%2f@host:8081/apis/ccompat/v7/");
        let (address, password) = ("https://host:8081/apis/ccompat/v7".to_owned(), Some("p@ss/".to_owned()));
        assert_eq!(apart, Some((address, "me".to_owned(), password)));
        let shown = format!("{:?}", taken_apart("http://host:8081"));
        assert_eq!(shown, r#"Some(("http://host:8081", "", None))"#);
        assert_eq!(plain("100%"), "100%");
    }

    /// As Avro's own library writes them, which registries use.
    #[test]
    fn relative_names_become_whole_again() {
        let relative = r#"{"type":"record","name":"Claim","namespace":"driftless","fields":[
            {"name":"role","type":{"type":"record","name":"Role","fields":[{"name":"n","type":["null","int"]}]}},
            {"name":"again","type":{"type":"array","items":"Role"}},
            {"name":"row","type":["null",{"type":"record","name":"t","namespace":"driftless.row","fields":[
                {"name":"type","type":"string"},{"name":"of","type":"driftless.Role"},{"name":"self","type":"t"}]}]},
            {"name":"last","type":"driftless.row.t"}]}"#;
        let whole = r#"{"type":"record","name":"driftless.Claim","fields":[
            {"name":"role","type":{"type":"record","name":"driftless.Role","fields":[{"name":"n","type":["null","int"]}]}},
            {"name":"again","type":{"type":"array","items":"driftless.Role"}},
            {"name":"row","type":["null",{"type":"record","name":"driftless.row.t","fields":[
                {"name":"type","type":"string"},{"name":"of","type":"driftless.Role"},{"name":"self","type":"driftless.row.t"}]}]},
            {"name":"last","type":"driftless.row.t"}]}"#;
        let json = |text: &str| serde_json::from_str::<Json>(text).unwrap();
        assert_eq!(json(&qualified(relative)), json(whole));
        assert_eq!(json(&qualified(whole)), json(whole), "whole ones stay");
    }

    #[test]
    fn what_is_no_url_is_refused_without_being_shown() {
        for wrong in ["reg", "ftp://u:hidden@host", "http://"] {
            let Err(error) = RegistrySchemas::new(wrong) else { panic!("{wrong} is no registry") };
            assert!(error.code == Code::ConfigInvalid && !format!("{error:?}").contains("hidden"), "{error:?}");
        }
    }
}
