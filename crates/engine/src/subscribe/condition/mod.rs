//! A condition on an event's parameters, in the Common Expression Language.

mod check;
#[cfg(test)]
mod tests;
mod values;

use std::fmt;
use std::sync::{Arc, LazyLock};

use cel::parser::Expression;
use cel::{Context, Env, ExecutionError, Value};

use super::demand::Demand;
use crate::Policy;
use crate::ceiling::is_content_over;
use crate::members::Members;

/// A condition, read and found harmless.
///
/// What is taken of the language has no loops, no regular expressions and nothing else whose cost
/// isn't bounded by how long the condition is and how much of the event it looks at, and both have
/// limits. So it always ends, and soon.
#[derive(Clone)]
pub(super) struct Condition(Arc<Checked>);

struct Checked {
    expression: Expression,
    /// The parameters it looks at, or may: of `vnd.a.b.c` also `vnd.a.b`, which may have a `c`.
    names: Vec<Box<str>>,
    /// Those it asks for with `has`.
    asked: Vec<Box<str>>,
    /// Content of more octets may not leave, and is looked at as if it weren't there.
    content_max_octets: u64,
}

/// What became of a condition on one event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Truth {
    True,
    False,
    /// It can't be said, and why. No value of the event is in it.
    Unknown(String),
}

impl Condition {
    /// Reads a condition that may look at what `policy` lets leave.
    pub(super) fn parse(text: &str, policy: &Policy) -> Result<Self, String> {
        Ok(Self(Arc::new(check::parse(text, &ENVIRONMENT, policy)?)))
    }

    /// The parameters it looks at that cost something to find out.
    pub(super) fn demand(&self) -> Demand {
        let Checked { names, asked, content_max_octets, .. } = &*self.0;
        let looks_at = |name: &str| names.iter().chain(asked).any(|one| **one == *name);
        let content = looks_at("messageContent").then_some(*content_max_octets);
        Demand::of_parameters(content, looks_at("bodyStructure"), looks_at("envelope"))
    }

    /// Whether it is true of an event.
    pub(super) fn holds(&self, json: &[u8]) -> Truth {
        let Checked { expression, names, asked, content_max_octets } = &*self.0;
        let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
        let (mut octets, mut values_left) = (0, TESTED_VALUES_MAX + 1);
        let mut present = Vec::new();
        for member in Members::new(json) {
            let Ok(name) = std::str::from_utf8(member.name) else { continue };
            if is_content_over(&member, *content_max_octets) {
                continue;
            }
            if asked.iter().any(|asked| **asked == *name) {
                present.push(name);
            }
            if !names.iter().any(|one| **one == *name) {
                continue;
            }
            octets += member.value.len();
            if octets > TESTED_OCTETS_MAX {
                let too_much = format!("what it looks at has more than {TESTED_OCTETS_MAX} octets");
                return Truth::Unknown(too_much);
            }
            match values::value(member.value, &mut values_left) {
                None => return Truth::Unknown(format!("{name} can't be read")),
                Some(_) if values_left == 0 => {
                    let too_many =
                        format!("what it looks at has more than {TESTED_VALUES_MAX} values");
                    return Truth::Unknown(too_many);
                }
                Some(value) => context.add_variable_from_value(name, value),
            }
        }
        for name in asked {
            let is_present = present.contains(&&**name);
            context.add_variable_from_value(check::presence(name), is_present);
        }
        match Value::resolve(expression, &context) {
            Ok(Value::Bool(true)) => Truth::True,
            Ok(Value::Bool(false)) => Truth::False,
            Ok(_) => Truth::Unknown("it comes to something that is neither true nor false".into()),
            Err(error) => Truth::Unknown(reason(&error)),
        }
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Condition").field(&self.0.names).finish()
    }
}

/// Why an expression has no value, without the values it was about: they may be private.
fn reason(error: &ExecutionError) -> String {
    match error {
        ExecutionError::UndeclaredReference(name) => format!("there is no {name}"),
        // Which may be a value of the event.
        ExecutionError::NoSuchKey(_) => "a key is not there".to_owned(),
        ExecutionError::IndexOutOfBounds(_) => "a list is too short".to_owned(),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
            "it divides by zero".to_owned()
        }
        ExecutionError::Overflow(..) => "a number gets too large".to_owned(),
        ExecutionError::NoSuchOverload(overload) => {
            format!(
                "{} can't be done with {}",
                overload.function(),
                overload.argument_types().join(" and ")
            )
        }
        _ => "it compares or adds what is not alike".to_owned(),
    }
}

/// The standard functions, without macros: `has` is ours, and the others are loops.
static ENVIRONMENT: LazyLock<Arc<Env>> =
    LazyLock::new(|| Arc::new(Env::default().with_optional_support(false).with_stdlib()));

/// Octets of the parameters a condition looks at, together. Holds every figure, name and list of
/// flags there is; with the other limits one event costs one condition two milliseconds at most,
/// as far as was found (docs/performance.md).
const TESTED_OCTETS_MAX: usize = 16 * 1024;

/// Values in them, as the entries of a list; each costs as much as many octets of a text. There
/// are at most 256 flags.
const TESTED_VALUES_MAX: usize = 1_024;
