//! JSON as the expression language has it.

use std::collections::HashMap;

use cel::Value;

/// The value of one member.
pub(super) fn value(json: &[u8]) -> Option<Value> {
    serde_json::from_slice(json).ok().map(converted)
}

fn converted(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(truth) => Value::Bool(truth),
        // Whole numbers are of one kind, so that they can be reckoned with; few are larger.
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::Int(number),
            (None, Some(number)) => Value::UInt(number),
            (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => text.into(),
        serde_json::Value::Array(list) => {
            list.into_iter().map(converted).collect::<Vec<_>>().into()
        }
        serde_json::Value::Object(members) => {
            let members = members.into_iter().map(|(name, value)| (name, converted(value)));
            members.collect::<HashMap<_, _>>().into()
        }
    }
}
