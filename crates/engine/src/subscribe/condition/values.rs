//! JSON as the expression language has it.

use std::collections::HashMap;

use cel::Value;

/// The value of one member; `left` is how many values may still be in it, and goes down by those
/// that are. Nothing where it can't be read; once none is left, what is given isn't whole.
pub(super) fn value(json: &[u8], left: &mut usize) -> Option<Value> {
    let json: serde_json::Value = serde_json::from_slice(json).ok()?;
    *left = left.saturating_sub(count(&json));
    Some(if *left > 0 { converted(json) } else { Value::Null })
}

fn count(json: &serde_json::Value) -> usize {
    match json {
        serde_json::Value::Array(list) => 1 + list.iter().map(count).sum::<usize>(),
        serde_json::Value::Object(members) => 1 + members.values().map(count).sum::<usize>(),
        _ => 1,
    }
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
