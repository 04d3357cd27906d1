//! A terminal's screen as an SVG: what the README shows is what the programs wrote.
//!
//! Every run of cells of one style has its place and its width, so that a viewer's own monospace font cannot move it.

use std::fmt::Write;

use vt100::{Cell, Color, Parser, Screen};

/// Of one cell, in pixels.
const CELL_WIDTH: f32 = 8.4;
const CELL_HEIGHT: f32 = 18.0;
const FONT_SIZE: f32 = 14.0;

/// Between the screen and the frame.
const MARGIN: f32 = 14.0;

/// The bar with three buttons above the screen.
const BAR_HEIGHT: f32 = 30.0;

const BACKGROUND: &str = "#14181f";
const BAR: &str = "#252b35";
const FOREGROUND: &str = "#d7dde6";
const BUTTONS: [&str; 3] = ["#f2655c", "#f5bf4f", "#5dc465"];

/// The sixteen named colours, dark enough and light enough for [`BACKGROUND`].
const NAMED: [&str; 16] = [
    "#3b4252", "#f2655c", "#5dc465", "#e5b84b", "#6aa5f8", "#c58af9", "#4fc3d0", "#d7dde6", "#7d8798",
    "#ff8a80", "#8ce09a", "#ffd479", "#9cc4ff", "#dcb0ff", "#86e1ea", "#ffffff",
];

/// The screen after `raw` was written to it, without the empty rows at its end.
///
/// `columns` and `rows` are those of the terminal for which it was written.
pub fn svg(raw: &str, columns: u16, rows: u16) -> String {
    let mut terminal = Parser::new(rows, columns, 0);
    terminal.process(raw.as_bytes());
    let screen = terminal.screen();
    let used = screen.rows(0, columns).enumerate().filter(|(_, row)| !row.trim().is_empty());
    let used = used.map(|(at, _)| at as u16 + 1).max().unwrap_or(1);
    let mut text = frame(columns, used);
    for row in 0..used {
        for run in runs(screen, row, columns) {
            draw(&mut text, row, &run);
        }
    }
    text.push_str("</svg>\n");
    text
}

/// Cells beside each other that look alike.
struct Run {
    column: u16,
    cells: u16,
    text: String,
    style: Style,
}

#[derive(Clone, Copy, PartialEq)]
struct Style {
    foreground: Color,
    background: Color,
    weight: Weight,
}

#[derive(Clone, Copy, PartialEq)]
enum Weight {
    Plain,
    Bold,
    Dim,
}

fn style(cell: &Cell) -> Style {
    let weight = match (cell.bold(), cell.dim()) {
        (true, _) => Weight::Bold,
        (false, true) => Weight::Dim,
        (false, false) => Weight::Plain,
    };
    let (foreground, background) = match cell.inverse() {
        true => (cell.bgcolor(), cell.fgcolor()),
        false => (cell.fgcolor(), cell.bgcolor()),
    };
    Style { foreground, background, weight }
}

fn runs(screen: &Screen, row: u16, columns: u16) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for column in 0..columns {
        let Some(cell) = screen.cell(row, column) else { continue };
        let style = style(cell);
        let text = if cell.has_contents() { cell.contents() } else { " " };
        match runs.last_mut() {
            Some(run) if cell.is_wide_continuation() => run.cells += 1,
            Some(run) if run.style == style => {
                run.text.push_str(text);
                run.cells += 1;
            }
            Some(_) | None => runs.push(Run { column, cells: 1, text: text.to_owned(), style }),
        }
    }
    runs
}

fn frame(columns: u16, rows: u16) -> String {
    let width = f32::from(columns) * CELL_WIDTH + 2.0 * MARGIN;
    let height = f32::from(rows) * CELL_HEIGHT + 2.0 * MARGIN + BAR_HEIGHT;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.1} {height:.1}\" width=\"{width:.0}\" \
         font-family=\"ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace\" font-size=\"{FONT_SIZE}\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{BACKGROUND}\"/>\n\
         <path d=\"M0 {BAR_HEIGHT}V8a8 8 0 0 1 8-8H{right:.1}a8 8 0 0 1 8 8V{BAR_HEIGHT}z\" fill=\"{BAR}\"/>\n",
        right = width - 8.0,
    );
    for (at, colour) in BUTTONS.into_iter().enumerate() {
        let x = 20 + 20 * at;
        push(&mut text, format_args!("<circle cx=\"{x}\" cy=\"15\" r=\"6\" fill=\"{colour}\"/>\n"));
    }
    text
}

fn draw(text: &mut String, row: u16, run: &Run) {
    let x = MARGIN + f32::from(run.column) * CELL_WIDTH;
    let y = BAR_HEIGHT + MARGIN + f32::from(row) * CELL_HEIGHT;
    if run.style.background != Color::Default {
        let (width, fill) = (f32::from(run.cells) * CELL_WIDTH, colour(run.style.background, BACKGROUND));
        push(
            text,
            format_args!(
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{CELL_HEIGHT}\" fill=\"{fill}\"/>\n"
            ),
        );
    }
    let shown = run.text.trim_end();
    let indent = shown.chars().count() - shown.trim_start().chars().count();
    let shown = shown.trim_start();
    if shown.is_empty() {
        return;
    }
    let x = x + indent as f32 * CELL_WIDTH;
    // A run may end in blanks, which are cells of it and no part of what is drawn.
    let blanks = run.text.chars().count() - run.text.trim_end().chars().count();
    let width = (usize::from(run.cells) - blanks - indent) as f32 * CELL_WIDTH;
    let baseline = y + FONT_SIZE;
    let fill = colour(run.style.foreground, FOREGROUND);
    let weight = match run.style.weight {
        Weight::Plain => "",
        Weight::Bold => " font-weight=\"bold\"",
        Weight::Dim => " opacity=\"0.6\"",
    };
    let shown = escaped(shown);
    push(
        text,
        format_args!(
            "<text x=\"{x:.1}\" y=\"{baseline:.1}\" textLength=\"{width:.1}\" lengthAdjust=\"spacingAndGlyphs\" \
             xml:space=\"preserve\" fill=\"{fill}\"{weight}>{shown}</text>\n"
        ),
    );
}

fn push(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a text takes whatever is written to it");
}

/// As SVG names it; `otherwise` where the terminal's own is meant.
fn colour(colour: Color, otherwise: &str) -> String {
    let rgb = |r: u8, g: u8, b: u8| format!("#{r:02x}{g:02x}{b:02x}");
    match colour {
        Color::Default => otherwise.to_owned(),
        Color::Idx(at @ 0..=15) => NAMED[usize::from(at)].to_owned(),
        Color::Idx(at @ 16..=231) => {
            let level = |digit: u8| if digit == 0 { 0 } else { 55 + 40 * digit };
            let at = at - 16;
            rgb(level(at / 36), level(at / 6 % 6), level(at % 6))
        }
        Color::Idx(at) => {
            let grey = 8 + 10 * (at - 232);
            rgb(grey, grey, grey)
        }
        Color::Rgb(r, g, b) => rgb(r, g, b),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::svg;

    #[test]
    fn what_stands_on_the_screen_is_in_the_picture_with_its_colour() {
        let picture = svg("$ lockstep status\r\n\u{1b}[32m\u{2713}\u{1b}[0m app-1 <live> & well\r\n", 40, 10);
        assert!(picture.contains(">$ lockstep status</text>"), "{picture}");
        assert!(picture.contains("fill=\"#5dc465\">\u{2713}</text>"), "{picture}");
        assert!(picture.contains(">app-1 &lt;live&gt; &amp; well</text>"), "{picture}");
    }

    #[test]
    fn what_was_drawn_over_is_not_in_the_picture() {
        let picture = svg("working\r\u{1b}[2Kdone\r\n", 40, 10);
        assert!(picture.contains(">done</text>") && !picture.contains("working"), "{picture}");
    }

    #[test]
    fn a_picture_is_as_high_as_what_it_shows() {
        let (one, two) = (svg("a", 40, 60), svg("a\r\nb", 40, 60));
        assert!(one.contains("viewBox=\"0 0 364.0 76.0\""), "{one}");
        assert!(two.contains("viewBox=\"0 0 364.0 94.0\""), "{two}");
    }

    #[test]
    fn a_run_has_the_width_of_its_cells() {
        let picture = svg("  wide \u{4e16} end", 40, 10);
        // `wide`, a blank, two cells of one letter, a blank, `end`.
        assert!(picture.contains(&format!("textLength=\"{:.1}\"", 11.0 * 8.4)), "{picture}");
    }

    #[test]
    fn a_colour_of_the_cube_and_a_grey_are_worked_out() {
        let picture = svg("\u{1b}[38;5;208mcube\u{1b}[0m \u{1b}[38;5;244mgrey", 40, 10);
        assert!(picture.contains("fill=\"#ff8700\">cube"), "{picture}");
        assert!(picture.contains("fill=\"#808080\">grey"), "{picture}");
    }
}
