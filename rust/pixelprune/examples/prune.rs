//! Prunes an image and packs the kept tokens for a model of the Qwen3-VL family.
//!
//! ```text
//! cargo run --release --example prune -- page.png [patches.f32]
//! ```
//!
//! Prints a map of the tokens and how many of them are kept. Writes the patches to the second path: little-endian
//! float32, one row per patch.

use pixelprune::{
    Choice, ImageView, Job, PatchOrder, Recipe, RowFormat, Selection, Settings, Threads, normalised_levels,
    preprocess,
};
use std::error::Error;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Seek};

const FORMAT: RowFormat =
    RowFormat { patch: 16, merge: 2, frames: 2, channels_last: false, order: PatchOrder::Block };

/// An RGB image.
struct Image {
    pixels: Vec<u8>,
    height: usize,
    width: usize,
}

/// A pruned image.
struct Pruned {
    /// Token columns of the image.
    cols: usize,
    selection: Selection,
    /// The patches of the kept tokens.
    patches: Vec<f32>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut paths = std::env::args_os().skip(1);
    let path = paths.next().ok_or("usage: prune IMAGE.png [PATCHES]")?;
    let image = read(BufReader::new(File::open(path)?))?;
    let pruned = prune(&image)?;
    print!("{}", map(&pruned));
    println!("{}", summary(&image, &pruned));
    if let Some(path) = paths.next() {
        let bytes: Vec<u8> = pruned.patches.iter().flat_map(|value| value.to_le_bytes()).collect();
        fs::write(path, bytes)?;
    }
    Ok(())
}

/// Decodes a PNG file to RGB; grey values become three channels, and alpha is dropped.
fn read(file: impl BufRead + Seek) -> Result<Image, Box<dyn Error>> {
    let mut decoder = png::Decoder::new(file);
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info()?;
    let mut data = vec![0; reader.output_buffer_size().ok_or("the image does not fit into memory")?];
    let info = reader.next_frame(&mut data)?;
    data.truncate(info.buffer_size());
    let samples = info.color_type.samples();
    let rgb = |pixel: &[u8]| if samples < 3 { [pixel[0]; 3] } else { [pixel[0], pixel[1], pixel[2]] };
    let pixels = data.chunks_exact(samples).flat_map(rgb).collect();
    Ok(Image { pixels, height: info.height as usize, width: info.width as usize })
}

/// Resizes both sides to the nearest multiple of the token side, prunes without loss, normalises and packs.
fn prune(image: &Image) -> Result<Pruned, pixelprune::Error> {
    let Image { pixels, height, width } = image;
    let token = FORMAT.token();
    let nearest = |side: usize| (side + token / 2) / token * token;
    let (to_height, to_width) = (nearest(*height).max(token), nearest(*width).max(token));

    let view = ImageView::new(pixels, *height, *width, 3, width * 3)?;
    let settings = Settings::default();
    let job =
        Job { image: view, height: to_height, width: to_width, pad: false, choice: Choice::By(&settings) };
    let levels = normalised_levels([0.5; 3], [0.5; 3]);
    let cols = to_width / token;
    let mut patches = vec![0.0; to_height / token * cols * FORMAT.token_values()];
    let mut selections = preprocess(&[job], &Recipe::new(FORMAT, &levels), Threads::ONE, &mut patches)?;

    let selection = selections.remove(0);
    patches.truncate(selection.keep.len() * FORMAT.token_values());
    Ok(Pruned { cols, selection, patches })
}

/// One character per token: `#` where it is kept, `.` where it is dropped.
fn map(pruned: &Pruned) -> String {
    let total = pruned.selection.source.as_ref().map_or(0, Vec::len);
    let mut map = vec!['.'; total];
    pruned.selection.keep.iter().for_each(|&token| map[token as usize] = '#');
    map.chunks(pruned.cols).flat_map(|row| row.iter().copied().chain(['\n'])).collect()
}

fn summary(image: &Image, pruned: &Pruned) -> String {
    let kept = pruned.selection.keep.len();
    let total = pruned.selection.source.as_ref().map_or(0, Vec::len);
    format!(
        "{} x {} pixels: {kept} of {total} tokens kept, {} patches of {} values",
        image.width,
        image.height,
        pruned.patches.len() / FORMAT.row(),
        FORMAT.row()
    )
}

#[test]
fn a_page_with_a_dot_keeps_two_tokens() -> Result<(), Box<dyn Error>> {
    let mut page = vec![255; 96 * 64];
    page[40 * 96 + 70] = 0;
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 96, 64);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header()?.write_image_data(&page)?;
    let image = read(std::io::Cursor::new(file))?;
    let pruned = prune(&image)?;
    assert_eq!(map(&pruned), "#..\n..#\n");
    assert_eq!(summary(&image, &pruned), "96 x 64 pixels: 2 of 6 tokens kept, 8 patches of 1536 values");
    Ok(())
}
