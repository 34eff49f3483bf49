//! Tables whose lines appear one after the other.

/// Columns as wide as their heads, so that lines align while they appear.
pub(super) struct Table {
    widths: Vec<usize>,
    silent: bool,
}

impl Table {
    pub(super) fn new(title: &str, heads: &[&str], silent: bool) -> Self {
        let widths: Vec<usize> = heads.iter().map(|head| head.len().max(8)).collect();
        let table = Self { widths, silent };
        if !silent {
            println!("\n{title}\n");
            table.line(&heads.iter().map(|head| (*head).to_owned()).collect::<Vec<_>>());
            let rule = table.widths.iter().enumerate().map(|(column, width)| match column {
                0 => "-".repeat(*width),
                _ => format!("{}:", "-".repeat(width - 1)),
            });
            println!("| {} |", rule.collect::<Vec<_>>().join(" | "));
        }
        table
    }

    pub(super) fn line(&self, cells: &[String]) {
        if self.silent {
            return;
        }
        let cells = cells.iter().zip(&self.widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        println!("| {} |", cells.collect::<Vec<_>>().join(" | "));
    }
}
