//! What is taken of the language, and what isn't.

use cel::Env;
use cel::common::ast::{CallExpr, Expr, IdedExpr, ListExpr, LiteralValue, SelectExpr, operators};
use cel::parser::ParseErrors;
use mail_event::ParameterName;

use super::Checked;
use crate::Policy;
use crate::subscribe::nearest::nearest;

/// Reads a condition.
pub(super) fn parse(text: &str, environment: &Env, policy: &Policy) -> Result<Checked, String> {
    if text.is_empty() || text.len() > TEXT_OCTETS_MAX {
        return Err(format!("a condition has 1 to {TEXT_OCTETS_MAX} octets"));
    }
    let parser = environment.parser().max_recursion_depth(PARSE_DEPTH_MAX);
    let mut expression = parser.parse(text).map_err(|errors| syntax(&errors))?;
    if !says_yes_or_no(&expression.expr) {
        return Err("a condition must come to true or false".to_owned());
    }
    let mut check = Check { policy, parts: 0, sums: 0, names: Vec::new(), asked: Vec::new() };
    check.expression(&mut expression, 0)?;
    let content_max_octets = policy.content_leaves().unwrap_or(0);
    Ok(Checked { expression, names: check.names, asked: check.asked, content_max_octets })
}

/// What stands in an expression in the place of `has(name)`; no parameter is called so.
pub(super) fn presence(name: &str) -> String {
    format!("has {name}")
}

struct Check<'a> {
    policy: &'a Policy,
    parts: usize,
    sums: usize,
    names: Vec<Box<str>>,
    asked: Vec<Box<str>>,
}

impl Check<'_> {
    /// Looks at a part and all its parts, and puts parameters in the place of their names.
    fn expression(&mut self, part: &mut IdedExpr, depth: usize) -> Result<(), String> {
        self.parts += 1;
        if self.parts > PARTS_MAX || depth > DEPTH_MAX {
            return Err(format!(
                "a condition has at most {PARTS_MAX} parts, nested at most {DEPTH_MAX} deep"
            ));
        }
        if let Some(name) = name_of(&part.expr) {
            return self.look_at(&name, &mut part.expr);
        }
        match &mut part.expr {
            Expr::Call(call) if call.func_name == operators::HAS => {
                let name = asked_for(call)?;
                self.known(&name)?;
                part.expr = Expr::Ident(presence(&name));
                add(&mut self.asked, &name);
                Ok(())
            }
            Expr::Call(call) => {
                known_function(call)?;
                self.sums += usize::from(call.func_name == operators::ADD);
                if self.sums > SUMS_MAX {
                    return Err(format!("a condition has at most {SUMS_MAX} \"+\""));
                }
                let target = call.target.iter_mut().map(AsMut::as_mut);
                target.chain(&mut call.args).try_for_each(|one| self.expression(one, depth + 1))
            }
            Expr::List(ListExpr { elements, .. }) => {
                elements.iter_mut().try_for_each(|one| self.expression(one, depth + 1))
            }
            Expr::Select(SelectExpr { operand, .. }) => self.expression(operand, depth + 1),
            Expr::Literal(_) => Ok(()),
            Expr::Map(_) | Expr::Struct(_) => Err("maps can't be written here".to_owned()),
            Expr::Comprehension(_) => Err(loops("a comprehension")),
            Expr::Ident(_) | Expr::Unspecified => Err("something is missing".to_owned()),
        }
    }

    fn look_at(&mut self, name: &str, place: &mut Expr) -> Result<(), String> {
        self.known(name)?;
        if let Expr::Call(_) = place {
            *place = Expr::Ident(name.to_owned());
        }
        add(&mut self.names, name);
        // Of a vendor's it isn't known how much is the name and how much leads into its value.
        let mut shorter = name;
        while let Some((start, _)) = shorter.rsplit_once('.').filter(|(start, _)| *start != VENDOR)
        {
            self.allowed(start)?;
            add(&mut self.names, start);
            shorter = start;
        }
        Ok(())
    }

    fn known(&self, name: &str) -> Result<(), String> {
        let is_known = match name.parse::<ParameterName>() {
            Ok(ParameterName::Other(other)) => other.is_vendor() || name == EVENT,
            Ok(_) => true,
            Err(_) => false,
        };
        if !is_known {
            let known = ParameterName::REGISTERED;
            let names = known.iter().map(ParameterName::as_str).chain([EVENT]);
            return Err(match nearest(name, names) {
                Some(near) => format!("{name:?} is not a parameter (did you mean {near:?}?)"),
                None => {
                    format!("{name:?} is not a parameter; names of your own begin with \"vnd.\"")
                }
            });
        }
        self.allowed(name)
    }

    /// What may not leave may not be found out by asking either.
    fn allowed(&self, name: &str) -> Result<(), String> {
        match self.policy.keeps(name) {
            None => Ok(()),
            Some(key) => Err(format!(
                "{name:?} is private, and the policy lets none leave ({key}): it can't be tested"
            )),
        }
    }
}

fn add(names: &mut Vec<Box<str>>, name: &str) {
    if !names.iter().any(|known| **known == *name) {
        names.push(name.into());
    }
}

/// The parameter that an expression names, if it does: `messageSize`, `vnd.example.score`, or
/// `vnd["example.my-score"]` where the name can't be written otherwise.
fn name_of(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(SelectExpr { operand, field, test: false }) => {
            let start = name_of(&operand.expr).filter(|start| is_vendors(start))?;
            Some(format!("{start}.{field}"))
        }
        Expr::Call(CallExpr { func_name, target: None, args }) if func_name == operators::INDEX => {
            let [IdedExpr { expr: Expr::Ident(start), .. }, IdedExpr { expr, .. }] = &**args else {
                return None;
            };
            match expr {
                Expr::Literal(LiteralValue::String(rest)) if start == VENDOR => {
                    Some(format!("{VENDOR}.{}", rest.inner()))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

fn is_vendors(name: &str) -> bool {
    name == VENDOR || name.strip_prefix(VENDOR).is_some_and(|rest| rest.starts_with('.'))
}

fn asked_for(call: &CallExpr) -> Result<String, String> {
    let name = match (&call.target, &*call.args) {
        (None, [one]) => name_of(&one.expr),
        _ => None,
    };
    name.ok_or_else(|| "has takes a parameter's name, as in has(messageSize)".to_owned())
}

fn known_function(call: &CallExpr) -> Result<(), String> {
    let name = call.func_name.as_str();
    if OPERATORS.contains(&name) || FUNCTIONS.contains(&name) {
        return Ok(());
    }
    match name {
        operators::EXISTS
        | operators::EXISTS_ONE
        | operators::ALL
        | operators::MAP
        | operators::FILTER => Err(loops(name)),
        _ => Err(format!("{name:?} is not a function here; there are {}", FUNCTIONS.join(", "))),
    }
}

fn loops(name: &str) -> String {
    format!("{name:?} loops over a list, which isn't taken; ask for one value with \"in\"")
}

/// Whether something may come to true or false.
fn says_yes_or_no(expression: &Expr) -> bool {
    match expression {
        Expr::Literal(literal) => matches!(literal, LiteralValue::Boolean(_)),
        Expr::List(_) | Expr::Map(_) | Expr::Struct(_) => false,
        Expr::Ident(name) => name.parse::<ParameterName>().is_err() || is_vendors(name),
        Expr::Call(call) => {
            let name = call.func_name.as_str();
            !NUMBERS_AND_TEXTS.contains(&name)
        }
        _ => true,
    }
}

/// The first thing wrong, on one line.
fn syntax(errors: &ParseErrors) -> String {
    let Some(first) = errors.errors.first() else { return "can't be read".to_owned() };
    if first.msg.contains("Recursion limit") {
        return format!("nested more than {DEPTH_MAX} deep");
    }
    // What all might have stood there is a long list.
    let what = first.msg.split(" expecting ").next().unwrap_or_default();
    let what = what.strip_prefix("Syntax error: ").unwrap_or(what);
    let (line, column) = first.pos;
    format!("line {line}, column {column}: {}", what.replace(char::is_control, " "))
}

/// What may stand between values.
const OPERATORS: [&str; 18] = [
    operators::IN,
    operators::CONDITIONAL,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::SUBSTRACT,
    operators::ADD,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::GREATER_EQUALS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::LESS,
    operators::NEGATE,
    operators::INDEX,
];

/// What may be called. None costs more than its arguments are long.
const FUNCTIONS: [&str; 9] =
    ["bool", "contains", "double", "endsWith", "int", "size", "startsWith", "string", "uint"];

/// What never comes to true or false.
const NUMBERS_AND_TEXTS: [&str; 11] = [
    operators::SUBSTRACT,
    operators::ADD,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::NEGATE,
    "double",
    "int",
    "size",
    "string",
    "uint",
];

/// What names outside the registry begin with.
const VENDOR: &str = "vnd";

/// The event's own name, which stands beside the parameters.
const EVENT: &str = "event";

/// Octets of a condition: a screenful.
const TEXT_OCTETS_MAX: usize = 1_024;

/// Parts of one: each costs a microsecond at most, beside the octets it looks at.
const PARTS_MAX: usize = 128;

/// Sums in one: those of texts and lists are copied, and those of sums copied again.
const SUMS_MAX: usize = 8;

/// How deep they nest; reading and evaluating them takes some stack for each.
const DEPTH_MAX: usize = 32;

/// The same for the reader, which counts parentheses as well.
const PARSE_DEPTH_MAX: u16 = 32;
