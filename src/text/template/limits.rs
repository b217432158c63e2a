//! Limits the instructions of a chat template, the size of its values, the work on them, and its output. A template comes with a
//! checkpoint, so it may be faulty or malicious, and each instruction can double the size of a text.
//!
//! minijinja limits instructions but not values. So this module replaces every instruction whose result can be larger than its input with a
//! filter that checks the size first. This requires minijinja's feature `unstable_machinery`.

use std::cell::Cell;
use std::fmt::{self, Write};
use std::sync::LazyLock;

use minijinja::machinery::{CodeGenerator, Instruction, Instructions, Token, make_string_output, parse, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Rest, Tuple, Value, ValueKind, ValueOrKwargs};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, filters};

use crate::text::json::tojson;

/// The maximum size of a template's source, in bytes.
pub(super) const SOURCE_BYTES: usize = 1 << 20;
/// The maximum number of instructions per rendering. Published templates run a few dozen per message.
const INSTRUCTIONS: u64 = 1_000_000;
/// The maximum size of a text, and of the output, in bytes.
const TEXT_BYTES: usize = 4 << 20;
/// The maximum number of items in a list, including nested items.
const ITEMS: usize = 100_000;
/// The maximum size of a product of constants, in bytes.
const CONSTANT_BYTES: usize = 64 << 20;
/// The work charged per list item, in bytes.
const ITEM_BYTES: usize = 32;
/// The maximum work of one rendering: the total size of the values that its operations process, in bytes.
const WORK: usize = 512 << 20;
/// The maximum nesting depth of lists.
const LIST_DEPTH: usize = 64;
/// The maximum nesting depth of macros and loops. minijinja's own limit would overflow some threads' stacks.
const DEPTH: usize = 150;

/// Filters whose result can be larger than their input, or that accept sizes as arguments. The filter with the first name checks the size,
/// then calls the original, which has the second name.
const GROWING_FILTERS: [(&str, &str); 11] = [
    ("replace", "plain/replace"),
    ("join", "plain/join"),
    ("indent", "plain/indent"),
    ("format", "plain/format"),
    ("batch", "plain/batch"),
    ("slice", "plain/slice"),
    ("split", "plain/split"),
    ("lines", "plain/lines"),
    ("list", "plain/list"),
    ("pprint", "plain/pprint"),
    ("tojson", "plain/tojson"),
];
const CONCAT: &str = "limited/concat";
const ADD: &str = "limited/add";
const MULTIPLY: &str = "limited/multiply";
const LIST: &str = "limited/list";
const TUPLE: &str = "limited/tuple";
const MAP: &str = "limited/map";

thread_local! {
    /// The work that remains for the rendering on this thread, out of [`WORK`].
    static WORK_LEFT: Cell<usize> = const { Cell::new(0) };
}

/// minijinja's own arithmetic, without limits.
static UNLIMITED: LazyLock<Environment<'static>> = LazyLock::new(Environment::new);

/// Adds the limited operations, and sets minijinja's own limits.
pub(super) fn install(environment: &mut Environment<'static>) {
    environment.set_recursion_limit(DEPTH);
    environment.set_unknown_method_callback(method);
    environment.add_filter(CONCAT, |left: &Value, right: &Value| concat(left, right));
    environment.add_filter(ADD, |left: &Value, right: &Value| {
        if let (Some(a), Some(b)) = (left.as_str(), right.as_str()) {
            check_bytes(a.len() + b.len())?;
        } else {
            charge(count_all_items(left)?.saturating_add(count_all_items(right)?))?;
        }
        calculate("a + b", left, right)
    });
    environment.add_filter(MULTIPLY, |left: &Value, right: &Value| {
        for (value, times) in [(left, right), (right, left)] {
            let times = times.as_usize().unwrap_or(0);
            match value.as_str() {
                Some(text) => check_bytes(text.len().saturating_mul(times))?,
                None if value.kind() == ValueKind::Number => {}
                None => check_items(value.len().unwrap_or(0).saturating_mul(times))?,
            }
        }
        calculate("a * b", left, right)
    });
    environment.add_filter(LIST, |values: Rest<Value>| {
        charge_values(&values)?;
        Ok::<_, Error>(Value::from(values.to_vec()))
    });
    environment.add_filter(TUPLE, |values: Rest<Value>| {
        charge_values(&values)?;
        Ok::<_, Error>(Value::from(Tuple::from(values.to_vec())))
    });
    environment.add_filter(MAP, |values: Rest<Value>| {
        charge_values(&values)?;
        Ok::<_, Error>(Value::from_pairs(values.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone()))))
    });
    environment.add_filter("plain/replace", filters::replace);
    environment.add_filter("plain/join", filters::join);
    environment.add_filter("plain/indent", filters::indent);
    environment.add_filter("plain/format", filters::format);
    environment.add_filter("plain/batch", filters::batch);
    environment.add_filter("plain/slice", filters::slice);
    environment.add_filter("plain/split", filters::split);
    environment.add_filter("plain/lines", filters::lines);
    environment.add_filter("plain/list", filters::list);
    environment.add_filter("plain/pprint", filters::pprint);
    environment.add_filter("plain/tojson", tojson);
    for (name, plain) in GROWING_FILTERS {
        environment.add_filter(name, move |state: &mut State, values: Rest<ValueOrKwargs>| {
            let values = values.into_values();
            check_growth(name, &values)?;
            state.apply_filter(plain, &values)
        });
    }
}

/// Checks that a source parses and that its constants are small. Does not run it.
///
/// # Errors
/// If it does not parse, or a product of constants could be too large.
pub(super) fn check(source: &str, syntax: &SyntaxConfig) -> Result<(), Error> {
    reject_large_constants(source, syntax)?;
    parse(source, "", syntax.clone()).map(|_| ())
}

/// Renders a template within the limits.
///
/// # Errors
/// If the template does not parse, raises an error or exceeds a limit.
pub(super) fn render(environment: &Environment<'static>, source: &str, syntax: &SyntaxConfig, variables: Value) -> Result<String, Error> {
    let tree = parse(source, "", syntax.clone())?;
    let mut code = CodeGenerator::new("", source);
    code.compile_stmt(&tree);
    let (mut instructions, mut blocks) = code.finish();
    let longest = [&mut instructions].into_iter().chain(blocks.values_mut()).map(limit_operations).max().unwrap_or(0);
    let mut environment = environment.clone();
    // The template's own text bypasses the formatter, so the instruction limit depends on its longest piece.
    environment.set_fuel(Some(INSTRUCTIONS.min((WORK / longest.max(1)) as u64)));
    WORK_LEFT.set(WORK);
    let mut text = String::new();
    minijinja::machinery::eval(&environment, &instructions, variables, &blocks, &mut make_string_output(&mut text), AutoEscape::None)?;
    check_bytes(text.len())?;
    Ok(text)
}

/// Replaces operations whose result can be larger than their input with limited ones. Returns the length in bytes of the longest text
/// between tags.
fn limit_operations(instructions: &mut Instructions) -> usize {
    // The filter has no slot in the cache.
    const UNCACHED: u8 = !0;
    let mut longest = 0;
    for index in 0.. {
        let Some(instruction) = instructions.get_mut(index) else { break };
        let limited = |name, count| Instruction::ApplyFilter(name, count, UNCACHED);
        let replaced = match instruction {
            Instruction::StringConcat => limited(CONCAT, Some(2)),
            Instruction::Add => limited(ADD, Some(2)),
            Instruction::Mul => limited(MULTIPLY, Some(2)),
            Instruction::BuildList(None) => limited(LIST, None),
            Instruction::BuildTuple(None) => limited(TUPLE, None),
            // Longer lists exceed a filter's argument count, but are bounded by the size of the source.
            Instruction::BuildList(Some(count @ 1..=0xFFFF)) => limited(LIST, Some(*count as u16)),
            Instruction::BuildTuple(Some(count @ 1..=0xFFFF)) => limited(TUPLE, Some(*count as u16)),
            Instruction::BuildMap(count @ 1..=0x7FFF) => limited(MAP, Some(2 * *count as u16)),
            Instruction::EmitRaw(text) => {
                longest = longest.max(text.len());
                continue;
            }
            _ => continue,
        };
        *instruction = replaced;
    }
    longest
}

/// Rejects large products of constant texts or lists and numbers, because minijinja folds constants before it renders, without limits.
fn reject_large_constants(source: &str, syntax: &SyntaxConfig) -> Result<(), Error> {
    let tokens: Vec<Token> =
        tokenize(source, false, syntax.clone()).map(|token| token.map(|(token, _)| token)).collect::<Result<_, Error>>()?;
    let number = |token: &Token| match token {
        Token::Int(number) => Some(u128::from(*number)),
        Token::Int128(number) => Some(**number),
        _ => None,
    };
    let largest = tokens.iter().filter_map(number).max().unwrap_or(1);
    // A product with a variable on either side is not folded.
    let is_constant = |token: &Token| !matches!(token, Token::Ident(name) if !name.eq_ignore_ascii_case("true"));
    let factor = |around: &[Token]| match (&around[0], &around[1], &around[2]) {
        (left, Token::Mul, right) if is_constant(left) && is_constant(right) => {
            // A number in parentheses is not visible here; assume the largest number in the template.
            number(left).into_iter().chain(number(right)).max().unwrap_or(largest)
        }
        (left, Token::Pow, right) if is_constant(left) && is_constant(right) => {
            let power = number(right).map_or(u32::MAX, |power| power.min(128) as u32);
            number(left).unwrap_or(largest).saturating_pow(power)
        }
        _ => 1,
    };
    let size = tokens.windows(3).map(factor).fold(source.len() as u128, |size, factor| size.saturating_mul(factor.max(1)));
    if size > CONSTANT_BYTES as u128 {
        return Err(too_large("its products of constants may have", CONSTANT_BYTES, "bytes"));
    }
    Ok(())
}

/// Prints a value like the default formatter, within the limits.
///
/// # Errors
/// If the value is too large.
pub(super) fn print(output: &mut Output, value: &Value) -> Result<(), Error> {
    match value.as_str() {
        Some(text) => {
            check_bytes(text.len())?;
            output.write_str(text).map_err(Error::from)
        }
        None => {
            count_all_items(value)?;
            output.write_str(&written(format_args!("{value}"))?).map_err(Error::from)
        }
    }
}

/// Calls a Python method of a string, list or dict, within the limits.
fn method(state: &mut State, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    let all: Vec<Value> = std::iter::once(value).chain(arguments).cloned().collect();
    // `join` is a method of the separator, but the filter's first argument is the list.
    let values: Vec<Value> = match (name, all.as_slice()) {
        ("join", [separator, list, ..]) => vec![list.clone(), separator.clone()],
        _ => all,
    };
    check_growth(name, &values)?;
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, arguments)
}

/// Charges for an operation's input, and rejects an operation whose result would be too large.
fn check_growth(name: &str, values: &[Value]) -> Result<(), Error> {
    charge_values(values)?;
    let text = |index: usize| values.get(index).and_then(Value::as_str).unwrap_or_default();
    match name {
        "replace" => {
            let (whole, old, new) = (text(0), text(1), text(2));
            let count = if old.is_empty() { whole.len() + 1 } else { whole.matches(old).count() };
            check_bytes(whole.len().saturating_add(count.saturating_mul(new.len())))
        }
        "join" => {
            let separator = keyword(values, "d").map_or(text(1).len(), |text| text.as_str().map_or(0, str::len));
            check_bytes(values.first().map_or(Ok(0), count_all_items)?.saturating_mul(separator))
        }
        "indent" => {
            let width = values.iter().skip(1).filter_map(Value::as_usize).max();
            let width = keyword(values, "width").and_then(|width| width.as_usize()).max(width).unwrap_or(4);
            check_bytes(text(0).len().saturating_add(text(0).lines().count().saturating_mul(width)))
        }
        // A width such as the one in `%9999999d`.
        "format" if text(0).as_bytes().chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit()).any(is_large_number) => {
            Err(too_large("a width is", 9999, "characters"))
        }
        "format" if text(0).contains('*') || text(0).contains("{:{") => {
            let width = values.iter().skip(1).filter_map(Value::as_usize).max().unwrap_or(0);
            check_items(width)
        }
        "split" => {
            let separator = text(1);
            let pieces = if separator.is_empty() { text(0).split_whitespace().count() } else { text(0).matches(separator).count() };
            charge(pieces.saturating_mul(ITEM_BYTES))
        }
        "lines" | "splitlines" => charge(text(0).lines().count().saturating_mul(ITEM_BYTES)),
        "list" => check_items(text(0).chars().count()),
        "batch" | "slice" => check_items(values.get(1).and_then(Value::as_usize).unwrap_or(0)),
        _ => Ok(()),
    }
}

/// Returns the keyword argument `name`, if given.
fn keyword(values: &[Value], name: &str) -> Option<Value> {
    let keyword = values.iter().skip(1).find(|value| value.kind() == ValueKind::Map)?;
    keyword.get_attr(name).ok().filter(|value| !value.is_undefined())
}

fn is_large_number(run: &[u8]) -> bool {
    run.len() > 4 && run[0].is_ascii_digit()
}

fn concat(left: &Value, right: &Value) -> Result<Value, Error> {
    count_all_items(left)?;
    count_all_items(right)?;
    written(format_args!("{left}{right}")).map(Value::from)
}

fn calculate(expression: &'static str, left: &Value, right: &Value) -> Result<Value, Error> {
    let values = Value::from_pairs([("a", left.clone()), ("b", right.clone())]);
    // The error's position refers to this expression, not to the template.
    let without_position =
        |error: Error| error.detail().map_or_else(|| Error::from(error.kind()), |detail| Error::new(error.kind(), detail.to_owned()));
    UNLIMITED.compile_expression(expression)?.eval(values).map_err(without_position)
}

/// Charges for the size of values.
fn charge_values(values: &[Value]) -> Result<(), Error> {
    let mut count = 0;
    for value in values {
        count_items(value, 0, &mut count)?;
        check_bytes(value.as_str().map_or(0, str::len))?;
    }
    charge(count.saturating_mul(ITEM_BYTES))
}

/// Returns the number of items of a list or map, including nested items and itself; 1 for any other value.
fn count_all_items(value: &Value) -> Result<usize, Error> {
    let mut count = 0;
    count_items(value, 0, &mut count)?;
    Ok(count)
}

/// Adds the items of a value to `count`. Limits the depth, because a list may contain itself, and printing a deep list could overflow the
/// stack.
fn count_items(value: &Value, depth: usize, count: &mut usize) -> Result<(), Error> {
    *count += 1;
    check_items(*count)?;
    if depth > LIST_DEPTH {
        return Err(too_large("nested lists have", LIST_DEPTH, "levels"));
    }
    match value.kind() {
        ValueKind::Seq => value.try_iter()?.try_for_each(|item| count_items(&item, depth + 1, count)),
        ValueKind::Map => value.try_iter()?.try_for_each(|key| count_items(&value.get_item(&key)?, depth + 1, count)),
        // Skip one-shot iterators: counting would consume them.
        ValueKind::Iterable if value.len().is_some() => value.try_iter()?.try_for_each(|item| count_items(&item, depth + 1, count)),
        _ => Ok(()),
    }
}

/// A text that cannot grow beyond [`TEXT_BYTES`].
struct Limited(String);

impl Write for Limited {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > TEXT_BYTES {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

fn written(arguments: fmt::Arguments) -> Result<String, Error> {
    let mut text = Limited(String::new());
    text.write_fmt(arguments).map_err(|_| too_large("a text has", TEXT_BYTES, "bytes"))?;
    charge(text.0.len())?;
    Ok(text.0)
}

fn check_bytes(bytes: usize) -> Result<(), Error> {
    if bytes > TEXT_BYTES {
        return Err(too_large("a text has", TEXT_BYTES, "bytes"));
    }
    charge(bytes)
}

fn check_items(count: usize) -> Result<(), Error> {
    if count > ITEMS { Err(too_large("a list has", ITEMS, "items")) } else { Ok(()) }
}

fn charge(work: usize) -> Result<(), Error> {
    let left = WORK_LEFT.get().checked_sub(work).ok_or_else(|| too_large("its operations process", WORK, "bytes"))?;
    WORK_LEFT.set(left);
    Ok(())
}

fn too_large(what: &str, limit: usize, unit: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("{what} more than {limit} {unit}, the limit for a template"))
}
