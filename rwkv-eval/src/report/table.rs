//! Tables of texts and numbers.

/// A table.
///
/// # Example
/// ```
/// use rwkv_eval::report::{Cell, Column, Number, Table};
/// let mut table = Table::new([Column::text("task"), Column::number("accuracy, %")]);
/// table.rows.push(vec![Cell::text("piqa"), Number::new(65.07, 2).with_error(1.11).into()]);
/// assert_eq!(table.rows[0][1].to_string(), "65.07 ± 1.11");
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// What it shows; none where it is empty.
    pub caption: String,
    /// Its columns.
    pub columns: Vec<Column>,
    /// Its rows; one that is too short ends in empty cells.
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows.
    #[must_use]
    pub fn new(columns: impl IntoIterator<Item = Column>) -> Self {
        Self { columns: columns.into_iter().collect(), ..Self::default() }
    }

    /// The cells of a row, as many as there are columns.
    pub(super) fn cells<'a>(&'a self, row: &'a [Cell]) -> impl Iterator<Item = (&'a Column, &'a Cell)> {
        let cells = row.iter().chain(std::iter::repeat(&Cell::Empty));
        self.columns.iter().zip(cells)
    }
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its heading.
    pub name: String,
    /// Whether its cells stand to the right, as numbers do.
    pub right: bool,
}

impl Column {
    /// Of texts.
    #[must_use]
    pub fn text(name: impl Into<String>) -> Self {
        Self { name: name.into(), right: false }
    }

    /// Of numbers.
    #[must_use]
    pub fn number(name: impl Into<String>) -> Self {
        Self { name: name.into(), right: true }
    }
}

/// What stands in a row under a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Nothing.
    Empty,
    /// A text.
    Text(String),
    /// A number.
    Number(Number),
}

impl Cell {
    /// A text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }
}

impl From<Number> for Cell {
    fn from(number: Number) -> Self {
        Self::Number(number)
    }
}

impl From<Option<Number>> for Cell {
    fn from(number: Option<Number>) -> Self {
        number.map_or(Self::Empty, Self::Number)
    }
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => Ok(()),
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => {
                f.write_str(&number.digits())?;
                number.error_digits().map_or(Ok(()), |error| write!(f, " ± {error}"))
            }
        }
    }
}

/// A number, with its error where it has one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Number {
    /// The number.
    pub value: f64,
    /// Its standard error.
    pub error: Option<f64>,
    /// Digits after the point.
    pub decimals: usize,
    /// Whether it is the best of those that it is compared with.
    pub best: bool,
}

impl Number {
    /// A number without an error.
    #[must_use]
    pub fn new(value: f64, decimals: usize) -> Self {
        Self { value, error: None, decimals, best: false }
    }

    /// The number with its error.
    #[must_use]
    pub fn with_error(self, error: f64) -> Self {
        Self { error: Some(error), ..self }
    }

    /// The number's digits.
    pub(super) fn digits(&self) -> String {
        digits(self.value, self.decimals)
    }

    /// The error's digits.
    pub(super) fn error_digits(&self) -> Option<String> {
        self.error.map(|error| digits(error, self.decimals))
    }
}

fn digits(value: f64, decimals: usize) -> String {
    if value.is_nan() {
        return "–".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "∞" } else { "−∞" }.to_owned();
    }
    let text = if value != 0.0 && (value.abs() >= 1e7 || value.abs() < 0.5 * 10f64.powi(-(decimals as i32))) {
        format!("{value:.decimals$e}")
    } else {
        format!("{value:.decimals$}")
    };
    // A minus sign is as wide as a digit's plus.
    text.replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_decimals() {
        let shown = |value| Cell::from(Number::new(value, 2)).to_string();
        assert_eq!(shown(65.0), "65.00");
        assert_eq!(shown(-0.126), "−0.13");
        assert_eq!(shown(0.001), "1.00e−3");
        assert_eq!(shown(0.0), "0.00");
        assert_eq!(shown(123_456_789.0), "1.23e8");
        assert_eq!((shown(f64::NAN), shown(f64::INFINITY)), ("–".to_owned(), "∞".to_owned()));
        assert_eq!(Cell::from(Number::new(4.381, 2).with_error(0.0612)).to_string(), "4.38 ± 0.06");
    }

    #[test]
    fn a_short_row_ends_in_empty_cells() {
        let table = Table::new([Column::text("a"), Column::number("b"), Column::number("c")]);
        let row = [Cell::text("x")];
        let cells: Vec<String> = table.cells(&row).map(|(_, cell)| cell.to_string()).collect();
        assert_eq!(cells, ["x", "", ""]);
    }
}
