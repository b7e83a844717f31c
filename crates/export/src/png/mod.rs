//! The cells as a picture of pixels.

use std::io::Write;
use std::sync::Arc;

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{self, Options, Tree};
use search_space::Genotype;

use crate::{Error, ModelCard, svg};

/// Pixels for each unit of the drawing.
const SCALE: f32 = 2.0;
/// Text looks the same on every machine, since the fonts come along: DejaVu, of which these are the letters that
/// drawings use (free to embed and change; `LICENSE` beside them).
const FONTS: [&[u8]; 2] = [include_bytes!("DejaVuSans.ttf"), include_bytes!("DejaVuSansMono.ttf")];

/// Writes what [`svg::write`] draws, on white, twice as large, as a PNG.
///
/// # Errors
/// As there; a drawing too large for memory.
pub fn write(genotype: &Genotype, card: &ModelCard, out: &mut dyn Write) -> Result<(), Error> {
    let mut drawing = Vec::new();
    svg::write(genotype, card, &mut drawing)?;
    let drawing = String::from_utf8(drawing).expect("a drawing is text");
    let tree = Tree::from_str(&light(&drawing), &options()).map_err(Error::drawing)?;
    let size = tree.size().scale_by(SCALE).ok_or_else(too_large)?.to_int_size();
    let mut pixels = Pixmap::new(size.width(), size.height()).ok_or_else(too_large)?;
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    Ok(out.write_all(&pixels.encode_png().map_err(Error::drawing)?)?)
}

fn options() -> Options<'static> {
    let mut fonts = usvg::fontdb::Database::new();
    FONTS.iter().for_each(|font| fonts.load_font_data(font.to_vec()));
    fonts.set_sans_serif_family("DejaVu Sans");
    fonts.set_monospace_family("DejaVu Sans Mono");
    Options { fontdb: Arc::new(fonts), font_family: "DejaVu Sans".to_owned(), ..Options::default() }
}

/// The drawing without its dark colors, between which and the light ones pixels cannot choose.
fn light(drawing: &str) -> String {
    let Some((before, rest)) = drawing.split_once("@media") else { return drawing.to_owned() };
    let after = rest.split_once("}\n}\n").map_or("", |(_, after)| after);
    format!("{before}{after}")
}

fn too_large() -> Error {
    Error::Drawing("it is too large for a picture".to_owned())
}
