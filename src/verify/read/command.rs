//! Reads commands as tokens: everything that starts with a backslash, and names that are also used without one.

use crate::verify::read::digits;
use crate::verify::read::lex::Lexer;
use crate::verify::read::token::{Command, Delimiter, Environment, Kind};
use crate::verify::read::upright::{argument, group, text};
use crate::verify::tree::{Relation, SetOperation};
use crate::verify::words;

/// Reads the command at the current position.
pub fn command(lexer: &mut Lexer) -> Option<()> {
    let rest = &lexer.rest()[1..];
    let length = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
    if length == 0 {
        let c = rest.chars().next()?;
        lexer.at += 1 + c.len_utf8();
        return escaped(lexer, c);
    }
    let name = &rest[..length];
    lexer.at += 1 + length;
    if spacing(lexer, name) || named(lexer, name) || relation(lexer, name) {
        return Some(());
    }
    match name {
        "text" | "textbf" | "textit" | "textrm" | "textup" | "mbox" | "hbox" | "mathrm" | "mathbf" | "mathit" | "mathsf" | "rm" | "bf"
        | "textsf" | "texttt" | "operatorname" | "emph" | "bold" | "boldsymbol" | "mathcal" | "mathop" => text(lexer, name),
        "mathbb" | "Bbb" => {
            let letter = argument(lexer)?.trim();
            let c = letter.chars().next()?;
            lexer.push(Kind::Numbers(c));
            Some(())
        }
        "begin" | "end" => environment(lexer, name == "begin"),
        "lim" | "sum" | "prod" | "int" | "iint" | "oint" | "bigcup" | "bigcap" => big(lexer, name),
        "textcircled" | "circled" => {
            let number = argument(lexer)?.trim().parse().ok().filter(|&number| number < 100)?;
            digits::push_circled(lexer, number)
        }
        "cr" if lexer.in_rows => {
            row_end(lexer);
            Some(())
        }
        "not" => {
            let found = lexer.eat("=");
            let negated = if found { Relation::NotEqual } else { Relation::Other(lexer.tree.name("not")) };
            lexer.push(Kind::Relation(negated));
            Some(())
        }
        "pmod" => {
            lexer.push(Kind::Modulo);
            Some(())
        }
        _ if bracket_command(lexer, name) => Some(()),
        _ => lexer.symbol(name),
    }
}

/// Reads a bracket command that is followed by a letter without a space: `\lbracex`. The letter is left for the next step.
fn bracket_command(lexer: &mut Lexer, name: &str) -> bool {
    const BRACKETS: [&str; 10] = ["lbrace", "rbrace", "lgroup", "rgroup", "lparen", "rparen", "lbrack", "rbrack", "langle", "rangle"];
    let known = name.get(..6).filter(|bracket| name.len() == 7 && BRACKETS.contains(bracket)).is_some_and(|bracket| named(lexer, bracket));
    lexer.at -= usize::from(known);
    known
}

/// Reads a backslash followed by a character that is not a letter.
fn escaped(lexer: &mut Lexer, c: char) -> Option<()> {
    match c {
        ' ' | ',' | ';' | ':' | '\n' | '>' => lexer.space(),
        '!' | '$' | '(' | ')' | '[' | ']' | '/' | '"' | '#' | '&' => {}
        '%' => lexer.push(Kind::Percent),
        '{' => {
            lexer.depth += 1;
            lexer.push(Kind::Open(Delimiter::Curly));
        }
        '}' => {
            lexer.depth = lexer.depth.saturating_sub(1);
            lexer.push(Kind::Close(Delimiter::Curly));
        }
        '|' => lexer.push(Kind::Bar),
        '_' => lexer.space(),
        '\\' if lexer.in_rows => row_end(lexer),
        '\\' => {
            // `\\frac` is a command that was escaped twice, as in JSON: no command name follows a line break.
            if starts_with_command_name(lexer.rest()) {
                lexer.space()
            } else {
                lexer.push(Kind::NewLine)
            }
            if starts_with_command_name(lexer.rest()) {
                lexer.at -= 1;
                return command(lexer);
            }
        }
        _ => return None,
    }
    Some(())
}

/// Ends a row. Consecutive row ends count once, because a text that was escaped twice has several. A length in brackets that follows is
/// vertical space and is skipped.
fn row_end(lexer: &mut Lexer) {
    if lexer.last() != Some(Kind::NewLine) {
        lexer.push(Kind::NewLine);
    }
    const UNITS: [&str; 6] = ["pt]", "em]", "ex]", "mm]", "cm]", "in]"];
    let rest = lexer.rest();
    let end = rest.bytes().take(8).position(|byte| byte == b']');
    if let Some(height) = end.and_then(|end| rest.get(..=end)).filter(|height| height.starts_with('[')) {
        lexer.at += if UNITS.iter().any(|unit| height.ends_with(unit)) { height.len() } else { 0 };
    }
}

/// True if the text starts with the name of a common command.
fn starts_with_command_name(rest: &str) -> bool {
    const NAMES: [&str; 40] = [
        "frac", "sqrt", "left", "right", "pi", "dfrac", "tfrac", "text", "le", "ge", "leq", "geq", "cup", "cap", "cdot", "times", "infty",
        "pm", "bigg", "Big", "big", "Bigg", "mathrm", "mathbb", "circ", "in", "ne", "neq", "quad", "alpha", "beta", "theta", "sin", "cos",
        "tan", "ln", "log", "lambda", "ldots", "cdots",
    ];
    let name = rest.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or("");
    NAMES.contains(&name)
}

/// Reads a command that only affects layout, or returns false. Of a decoration such as `\overline`, only the command is skipped, not its
/// argument.
fn spacing(lexer: &mut Lexer, name: &str) -> bool {
    match name {
        "left" | "right" | "big" | "Big" | "bigg" | "Bigg" | "bigl" | "bigr" | "Bigl" | "Bigr" | "biggl" | "biggr" | "Biggl" | "Biggr" => {
            lexer.eat_space();
            lexer.eat(".");
        }
        "displaystyle" | "textstyle" | "scriptstyle" | "limits" | "nolimits" | "quad" | "qquad" | "thinspace" | "medspace"
        | "thickspace" | "hline" | "overline" | "bar" | "hat" | "vec" | "widehat" | "tilde" | "overrightarrow" | "overset" | "boxed"
        | "underline" | "dot" | "cancel" | "mathstrut" | "newline" | "hfill" | "centerdot" => lexer.space(),
        "hspace" | "vspace" | "phantom" | "label" | "tag" | "color" => {
            let _ = argument(lexer);
        }
        _ => return false,
    }
    true
}

/// Reads a name that means the same with and without a backslash, or returns false.
pub fn named(lexer: &mut Lexer, name: &str) -> bool {
    let kind = match name {
        "frac" | "dfrac" | "tfrac" | "cfrac" => Kind::Command(Command::Fraction),
        "sqrt" => Kind::Command(Command::Root),
        "binom" | "dbinom" | "tbinom" => Kind::Command(Command::Binomial),
        "choose" => Kind::Choose,
        "colon" => Kind::Colon,
        "mod" | "bmod" => Kind::Modulo,
        "times" if lexer.source.contains("\\times") => Kind::Times,
        "cdot" | "ast" => Kind::Times,
        "div" => Kind::Slash,
        "pm" if lexer.source.contains("\\pm") => Kind::PlusMinus(false),
        "mp" => Kind::PlusMinus(true),
        "lbrace" => Kind::Open(Delimiter::Curly),
        "rbrace" => Kind::Close(Delimiter::Curly),
        "lgroup" | "lparen" => Kind::Open(Delimiter::Round),
        "rgroup" | "rparen" => Kind::Close(Delimiter::Round),
        "lbrack" => Kind::Open(Delimiter::Square),
        "rbrack" => Kind::Close(Delimiter::Square),
        "langle" => Kind::Open(Delimiter::Angle),
        "rangle" => Kind::Close(Delimiter::Angle),
        "lfloor" | "llcorner" => Kind::Open(Delimiter::Floor),
        "rfloor" | "lrcorner" => Kind::Close(Delimiter::Floor),
        "lceil" | "ulcorner" => Kind::Open(Delimiter::Ceil),
        "rceil" | "urcorner" => Kind::Close(Delimiter::Ceil),
        "vert" | "lvert" | "rvert" | "Vert" | "lVert" | "rVert" => Kind::Bar,
        "mid" => Kind::SuchThat,
        "cup" | "union" => Kind::Union,
        "cap" => Kind::Intersection,
        "setminus" | "backslash" | "smallsetminus" => Kind::Difference,
        "emptyset" | "varnothing" => Kind::EmptySet,
        "degree" | "textdegree" => Kind::Degree,
        "ldots" | "dots" | "cdots" | "dotsc" | "dotsb" | "dotsm" | "dotso" | "vdots" => Kind::Symbol(lexer.tree.name("…")),
        "prime" => Kind::Symbol(lexer.tree.name("'")),
        "R" if lexer.source.contains("\\R") => Kind::Numbers('R'),
        _ => {
            if let Some(function) = words::function(name) {
                Kind::Function(function)
            } else if let Some(function) = words::function2(name) {
                Kind::Function2(function)
            } else if let Some(constant) = words::constant(name) {
                Kind::Constant(constant)
            } else if words::is_letter_name(name) {
                return lexer.symbol(name).is_some();
            } else {
                return false;
            }
        }
    };
    match kind {
        Kind::Open(_) => lexer.depth += 1,
        Kind::Close(_) => lexer.depth = lexer.depth.saturating_sub(1),
        _ => {}
    }
    lexer.push(kind);
    true
}

fn relation(lexer: &mut Lexer, name: &str) -> bool {
    let relation = match name {
        "le" | "leq" | "leqslant" | "leqq" => Relation::LessEqual,
        "ge" | "geq" | "geqslant" | "geqq" => Relation::GreaterEqual,
        "lt" => Relation::Less,
        "gt" => Relation::Greater,
        "ne" | "neq" => Relation::NotEqual,
        "approx" | "approxeq" | "simeq" | "thickapprox" => Relation::Approximately,
        "in" => Relation::In,
        "equiv" | "sim" | "cong" | "to" | "rightarrow" | "Rightarrow" | "implies" | "iff" | "mapsto" | "propto" | "subset" | "subseteq"
        | "parallel" | "perp" | "notin" | "longrightarrow" | "Leftrightarrow" | "leftrightarrow" | "supset" | "supseteq" | "ll" | "gg" => {
            Relation::Other(lexer.tree.name(name))
        }
        _ => return false,
    };
    lexer.push(Kind::Relation(relation));
    true
}

fn environment(lexer: &mut Lexer, begins: bool) -> Option<()> {
    let name = argument(lexer)?;
    let kind = match name.trim_end_matches('*') {
        "pmatrix" | "bmatrix" | "matrix" | "Bmatrix" | "smallmatrix" => Environment::Matrix,
        "array" => {
            if begins {
                let _ = argument(lexer);
            }
            Environment::Matrix
        }
        "cases" | "aligned" | "align" | "gathered" | "gather" | "split" => Environment::Lines,
        _ => Environment::Other,
    };
    // The entries of a matrix are separate numbers, so no comma groups digits in it.
    lexer.depth = if begins { lexer.depth + 1 } else { lexer.depth.saturating_sub(1) };
    lexer.in_rows = begins;
    lexer.push(if begins { Kind::Begin(kind) } else { Kind::End(kind) });
    Some(())
}

/// Reads an operator with bounds in either order. They become part of its name, because sums over different ranges are different functions.
fn big(lexer: &mut Lexer, name: &str) -> Option<()> {
    let (mut lower, mut upper) = (String::new(), String::new());
    loop {
        let before = lexer.at;
        lexer.eat_space();
        if lexer.eat("\\limits") {
            continue;
        }
        if lexer.eat("_") {
            lower = bound(lexer)?;
        } else if lexer.eat("^") {
            upper = bound(lexer)?;
        } else {
            lexer.at = before;
            break;
        }
    }
    let full = lexer.tree.name(&format!("{name}_{lower}^{upper}"));
    let integral = name.ends_with("int");
    lexer.push(Kind::Big(full, integral));
    Some(())
}

fn bound(lexer: &mut Lexer) -> Option<String> {
    lexer.eat_space();
    let rest = lexer.rest();
    let raw = if rest.starts_with('{') {
        group(lexer)?
    } else if let Some(command) = rest.strip_prefix('\\') {
        let length = 1 + command.bytes().take_while(u8::is_ascii_alphabetic).count();
        lexer.at += length;
        &rest[..length]
    } else {
        argument(lexer)?
    };
    let raw =
        raw.replace("longrightarrow", "to").replace("rightarrow", "to").replace("Rightarrow", "to").replace("^{+}", "").replace("^+", "");
    (raw.len() <= 200).then(|| raw.chars().filter(|c| !c.is_whitespace() && !matches!(c, '{' | '}')).collect())
}

/// Returns the set operation that a token stands for.
pub fn set_operation(kind: Kind) -> Option<SetOperation> {
    Some(match kind {
        Kind::Union => SetOperation::Union,
        Kind::Intersection => SetOperation::Intersection,
        Kind::Difference => SetOperation::Difference,
        _ => return None,
    })
}
