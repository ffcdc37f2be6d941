//! What the fuzz targets share: how one input becomes bytes that arrive in parts.

/// Splits an input into a stream's parts: its first byte says how, the others are the stream.
///
/// 0 is byte by byte, 1 is all at once; any other byte starts a sequence of lengths, among them none.
pub fn parts(input: &[u8]) -> (&[u8], Vec<&[u8]>) {
    let Some((how, stream)) = input.split_first() else { return (b"", Vec::new()) };
    let mut parts = Vec::new();
    let mut rest = stream;
    let mut state = u32::from(*how);
    while !rest.is_empty() {
        // The linear congruential generator of Numerical Recipes: its upper bits are random enough for lengths.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = match how {
            0 => 1,
            1 => rest.len(),
            _ => (state >> 28) as usize,
        };
        let (part, others) = rest.split_at(length.min(rest.len()));
        parts.push(part);
        rest = others;
    }
    (stream, parts)
}
