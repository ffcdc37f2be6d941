//! The drain report, as the proxy logs it.

use serde_json::Value;

/// A drain report.
pub(crate) struct Report(Value);

// === impl Report ===

impl Report {
    /// The one report in `log`: the line with the event's name, whose other fields are the report's.
    pub(crate) fn from_log(log: &str) -> Result<Self, String> {
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut reports = lines.filter(|line| line["event"] == "drain_report");
        match (reports.next(), reports.next()) {
            (Some(report), None) => Ok(Self(report)),
            (Some(_), Some(_)) => Err("the proxy has logged two drain reports".to_owned()),
            (None, _) => Err("the proxy has logged no drain report".to_owned()),
        }
    }

    /// Fails unless the report tells of a drain that lost nothing.
    pub(crate) fn expect_clean(&self, reason: &str) -> Result<(), String> {
        self.expect("reason", &Value::from(reason))?;
        self.expect("outcome", &Value::from("drained"))?;
        self.expect_none(&["parked_released", "goodbyes", "abandoned", "peers_ignoring_close"])
    }

    /// Fails unless all numbers in `fields` are 0.
    pub(crate) fn expect_none(&self, fields: &[&str]) -> Result<(), String> {
        for field in fields {
            if total(&self.0[*field]) != Some(0) {
                return Err(format!("the report's {field} should be 0 everywhere: {}", self.0));
            }
        }
        Ok(())
    }

    /// Fails unless `field`, a name or a `/path/of/names`, is `value`.
    pub(crate) fn expect(&self, field: &str, value: &Value) -> Result<(), String> {
        if self.field(field) == Some(value) {
            return Ok(());
        }
        Err(format!("the report's {field} should be {value}: {}", self.0))
    }

    /// Fails unless `field`, a name or a `/path/of/names`, is a number from `least` to `most`.
    pub(crate) fn expect_between(
        &self,
        field: &str,
        least: usize,
        most: usize,
    ) -> Result<(), String> {
        let number = usize::try_from(self.number(field)?);
        if number.is_ok_and(|number| (least..=most).contains(&number)) {
            return Ok(());
        }
        Err(format!("the report's {field} should be from {least} to {most}: {}", self.0))
    }

    /// The number in `field`, a name or a `/path/of/names`.
    pub(crate) fn number(&self, field: &str) -> Result<u64, String> {
        let number = self.field(field).and_then(Value::as_u64);
        number.ok_or_else(|| format!("the report's {field} should be a number: {}", self.0))
    }

    fn field(&self, name: &str) -> Option<&Value> {
        self.0.get(name).or_else(|| self.0.pointer(name))
    }
}

// === helpers ===

/// A number, or the sum of an object's numbers.
fn total(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::Object(fields) => fields.values().map(total).sum(),
        Value::Array(_) | Value::Bool(_) | Value::Null | Value::String(_) => None,
    }
}
