//! From the text of a condition to its parts; the grammar stands in `filter`. Knows no schema.

use std::cmp::Ordering;
use std::fmt;

/// Deeper conditions are refused, so that none exhausts the stack.
const DEPTH_MAX: usize = 50;

/// A condition as it was written.
#[derive(Clone, PartialEq, Debug)]
pub enum Spoken {
    /// All hold.
    And(Vec<Spoken>),
    /// One holds.
    Or(Vec<Spoken>),
    /// It does not hold.
    Not(Box<Spoken>),
    /// A field against a literal.
    Compare(String, Compare, Literal),
    /// A field is one of these.
    In(String, Vec<Literal>),
    /// A field is null.
    IsNull(String),
}

/// How a field is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compare {
    /// `=`
    Equal,
    /// `!=`, `<>`
    Unequal,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    More,
    /// `>=`
    AtLeast,
}

impl Compare {
    /// Whether an order satisfies it.
    #[must_use]
    pub fn fits(self, order: Ordering) -> bool {
        match self {
            Compare::Equal => order.is_eq(),
            Compare::Unequal => order.is_ne(),
            Compare::Less => order.is_lt(),
            Compare::AtMost => order.is_le(),
            Compare::More => order.is_gt(),
            Compare::AtLeast => order.is_ge(),
        }
    }
}

/// What a field is compared with.
#[derive(Clone, PartialEq, Debug)]
pub enum Literal {
    /// Written in quotes.
    Text(String),
    /// As written.
    Number(String),
    /// `true` or `false`.
    Bool(bool),
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Literal::Text(text) => write!(f, "'{text}'"),
            Literal::Number(number) => f.write_str(number),
            Literal::Bool(value) => write!(f, "{value}"),
        }
    }
}

/// Reads a condition, or says what was expected.
pub fn parse(text: &str) -> Result<Spoken, String> {
    let mut reader = Reader { tokens: tokens(text)?, at: 0 };
    let condition = reader.condition(0)?;
    match reader.tokens.get(reader.at) {
        None => Ok(condition),
        Some(token) => Err(format!("expected `and`, `or` or the end, found {token}")),
    }
}

#[derive(Clone, PartialEq, Debug)]
enum Token {
    Word(String),
    Quoted(String),
    Text(String),
    Number(String),
    Sign(&'static str),
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Word(text) | Token::Number(text) => write!(f, "`{text}`"),
            Token::Quoted(text) => write!(f, "`\"{text}\"`"),
            Token::Text(text) => write!(f, "'{text}'"),
            Token::Sign(sign) => write!(f, "`{sign}`"),
        }
    }
}

/// The longer ones first.
const SIGNS: [&str; 10] = ["!=", "<>", "<=", ">=", "=", "<", ">", "(", ")", ","];

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, behind) = if first == '\'' || first == '"' {
            let (inner, behind) = quoted(rest, first)?;
            (if first == '"' { Token::Quoted(inner) } else { Token::Text(inner) }, behind)
        } else if let Some((sign, behind)) = SIGNS.iter().find_map(|sign| Some((*sign, rest.strip_prefix(sign)?))) {
            (Token::Sign(sign), behind)
        } else {
            let inside = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '+');
            let length = rest.find(|c| !inside(c)).unwrap_or(rest.len());
            let (word, behind) = rest.split_at(length);
            if word.is_empty() {
                return Err(format!("`{}` means nothing here", first.escape_debug()));
            }
            let number = first.is_ascii_digit() || matches!(first, '-' | '+' | '.');
            (if number { Token::Number(word.into()) } else { Token::Word(word.into()) }, behind)
        };
        found.push(token);
        rest = behind.trim_start();
    }
    Ok(found)
}

/// What stands between quotes, a doubled quote for one, and the rest.
fn quoted(text: &str, quote: char) -> Result<(String, &str), String> {
    let mut inner = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c != quote {
            inner.push(c);
        } else if chars.next_if(|(_, next)| *next == quote).is_some() {
            inner.push(quote);
        } else {
            return Ok((inner, text.get(at + 1..).unwrap_or_default()));
        }
    }
    Err(format!("a {quote} is missing at the end"))
}

struct Reader {
    tokens: Vec<Token>,
    at: usize,
}

impl Reader {
    fn condition(&mut self, depth: usize) -> Result<Spoken, String> {
        let mut any = vec![self.term(depth)?];
        while self.eat_word("or") {
            any.push(self.term(depth)?);
        }
        Ok(if any.len() == 1 { any.remove(0) } else { Spoken::Or(any) })
    }

    fn term(&mut self, depth: usize) -> Result<Spoken, String> {
        let mut all = vec![self.factor(depth)?];
        while self.eat_word("and") {
            all.push(self.factor(depth)?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Spoken::And(all) })
    }

    fn factor(&mut self, depth: usize) -> Result<Spoken, String> {
        if depth > DEPTH_MAX {
            return Err(format!("it is nested deeper than {DEPTH_MAX}"));
        }
        if self.eat_word("not") {
            return Ok(Spoken::Not(Box::new(self.factor(depth + 1)?)));
        }
        if self.eat_sign("(") {
            let inner = self.condition(depth + 1)?;
            return if self.eat_sign(")") { Ok(inner) } else { Err(self.expected("`)`")) };
        }
        let name = match self.tokens.get(self.at) {
            Some(Token::Word(name) | Token::Quoted(name)) => name.clone(),
            _ => return Err(self.expected("a field")),
        };
        self.at += 1;
        self.test(name)
    }

    fn test(&mut self, name: String) -> Result<Spoken, String> {
        if self.eat_word("is") {
            let not = self.eat_word("not");
            if !self.eat_word("null") {
                return Err(self.expected("`null`"));
            }
            let is_null = Spoken::IsNull(name);
            return Ok(if not { Spoken::Not(Box::new(is_null)) } else { is_null });
        }
        if self.eat_word("in") {
            if !self.eat_sign("(") {
                return Err(self.expected("`(`"));
            }
            let mut list = vec![self.literal()?];
            while self.eat_sign(",") {
                list.push(self.literal()?);
            }
            return if self.eat_sign(")") { Ok(Spoken::In(name, list)) } else { Err(self.expected("`)`")) };
        }
        let compare = match self.tokens.get(self.at) {
            Some(Token::Sign("=")) => Compare::Equal,
            Some(Token::Sign("!=" | "<>")) => Compare::Unequal,
            Some(Token::Sign("<")) => Compare::Less,
            Some(Token::Sign("<=")) => Compare::AtMost,
            Some(Token::Sign(">")) => Compare::More,
            Some(Token::Sign(">=")) => Compare::AtLeast,
            _ => return Err(self.expected("a comparison such as `=`, `in (…)` or `is null`")),
        };
        self.at += 1;
        Ok(Spoken::Compare(name, compare, self.literal()?))
    }

    fn literal(&mut self) -> Result<Literal, String> {
        let literal = match self.tokens.get(self.at) {
            Some(Token::Text(text)) => Literal::Text(text.clone()),
            Some(Token::Number(number)) => Literal::Number(number.clone()),
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("true") => Literal::Bool(true),
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("false") => Literal::Bool(false),
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("null") => {
                return Err("nothing equals null; use `is null`".into());
            }
            _ => return Err(self.expected("a text in quotes, a number, true or false")),
        };
        self.at += 1;
        Ok(literal)
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = matches!(self.tokens.get(self.at), Some(Token::Word(w)) if w.eq_ignore_ascii_case(word));
        self.at += usize::from(found);
        found
    }

    fn eat_sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.tokens.get(self.at), Some(Token::Sign(s)) if *s == sign);
        self.at += usize::from(found);
        found
    }

    fn expected(&self, what: &str) -> String {
        match self.tokens.get(self.at) {
            Some(token) => format!("expected {what}, found {token}"),
            None => format!("expected {what} at the end"),
        }
    }
}
