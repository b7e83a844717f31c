use super::*;

const DIMS: (usize, usize, usize) = (2, 3, 1);

fn row(index: usize) -> Row {
    Row { index, shift: (0, 0), mirrored: false, hole: (0..0, 0..0) }
}

/// Two examples: 1 to 6 and 7 to 12.
fn floats() -> Result<Held> {
    let mut packed = Packed::with_capacity(0);
    packed.push(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    packed.push(&[7.0, 8.0, 9.0, 10.0, 11.0, 12.0]);
    packed.hold(DIMS, &Device::Cpu)
}

#[track_caller]
fn makes(row: Row, scale: Option<Scale<'_>>, expected: [f32; 6]) -> Result<()> {
    assert_eq!(floats()?.batch(&[row], scale)?.to_vec2::<f32>()?, [expected]);
    Ok(())
}

#[test]
fn rows_are_shifted_then_mirrored_then_normalized_then_cut() -> Result<()> {
    makes(row(1), None, [7.0, 8.0, 9.0, 10.0, 11.0, 12.0])?;
    makes(Row { shift: (1, 0), ..row(0) }, None, [4.0, 5.0, 6.0, 0.0, 0.0, 0.0])?;
    makes(Row { shift: (-1, 1), ..row(0) }, None, [0.0, 0.0, 0.0, 2.0, 3.0, 0.0])?;
    makes(Row { mirrored: true, ..row(0) }, None, [3.0, 2.0, 1.0, 6.0, 5.0, 4.0])?;
    makes(Row { shift: (0, 1), mirrored: true, ..row(0) }, None, [0.0, 3.0, 2.0, 0.0, 6.0, 5.0])?;
    let scale = Some(Scale { mean: &[2.0], deviation: &[0.5] });
    let row = Row { shift: (1, 0), hole: (0..2, 1..2), ..row(0) };
    makes(row, scale, [4.0, 0.0, 8.0, -4.0, 0.0, -4.0])
}

#[test]
fn examples_stay_bytes_while_bytes_say_the_same() {
    let mut packed = Packed::with_capacity(0);
    packed.push(&[0.0, 1.0, 7.0 / 255.0]);
    packed.push(&[128.0 / 255.0, 254.0 / 255.0, 1.0 / 255.0]);
    assert_eq!(packed.bytes(), 6);
    packed.push(&[0.0, 0.3, 1.0]);
    assert_eq!(packed.bytes(), 4 * 9);
    let Values::Floats(values) = packed.0 else { panic!("0.3 is no byte") };
    assert_eq!(values, [0.0, 1.0, 7.0 / 255.0, 128.0 / 255.0, 254.0 / 255.0, 1.0 / 255.0, 0.0, 0.3, 1.0]);
    assert!((0..=255).all(|b| byte(value(b)) == Some(b)));
    assert!([-0.0, -1.0, 1.5, f32::NAN].into_iter().all(|value| byte(value).is_none()));
}

#[test]
fn what_is_not_there_is_refused() -> Result<()> {
    let held = floats()?;
    assert_eq!(held.examples(), 2);
    assert!(held.batch(&[row(2)], None).is_err());
    assert!(held.batch(&[], None).is_err());
    assert!(held.batch(&[Row { hole: (0..3, 0..1), ..row(0) }], None).is_err());
    assert!(held.batch(&[row(0)], Some(Scale { mean: &[1.0, 2.0], deviation: &[1.0, 1.0] })).is_err());
    assert!(Packed::with_capacity(0).hold((0, 3, 1), &Device::Cpu).is_err());
    Ok(())
}
