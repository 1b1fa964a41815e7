//! Times on the wire: RFC 3339, UTC, microseconds (Python keeps no more).

use serde::{Serialize, Serializer};
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

/// A point in time as the wire shows it.
#[derive(Debug, Clone, Copy)]
pub struct Stamp(pub OffsetDateTime);

impl Stamp {
    /// This moment.
    pub fn now() -> Self {
        Self(OffsetDateTime::now_utc())
    }
}

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let utc = self.0.to_offset(UtcOffset::UTC);
        let micros = utc.microsecond();
        let short = utc
            .replace_microsecond(micros)
            .map_err(serde::ser::Error::custom)?;
        let text = short.format(&Rfc3339).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(&text)
    }
}

impl PartialSchema for Stamp {
    fn schema() -> RefOr<Schema> {
        let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(format))
            .into()
    }
}

impl ToSchema for Stamp {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_utc_in_microseconds() {
        let at = OffsetDateTime::parse("2026-11-22T22:20:09.123456789+02:00", &Rfc3339).unwrap();
        let json = serde_json::to_string(&Stamp(at)).unwrap();
        assert_eq!(json, "\"2026-11-22T20:20:09.123456Z\"");
    }
}
