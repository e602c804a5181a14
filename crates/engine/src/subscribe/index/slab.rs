//! Things with numbers, in pieces: growing moves nothing.

/// Things found again by the number they were given.
///
/// One long list would be copied as a whole whenever it outgrows its place, and everybody would
/// wait for that.
#[derive(Debug)]
pub(super) struct Slab<T> {
    pieces: Vec<Vec<Option<T>>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { pieces: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Keeps a thing and gives it a number.
    pub(super) fn add(&mut self, thing: T) -> u32 {
        if let Some(number) = self.free.pop()
            && let Some(place) = self.place(number)
        {
            *place = Some(thing);
            return number;
        }
        if self.pieces.last().is_none_or(|last| last.len() == PIECE) {
            self.pieces.push(Vec::new());
        }
        let before = (self.pieces.len() - 1) * PIECE;
        let at = self.pieces.last_mut().map_or(0, |last| {
            last.push(Some(thing));
            before + last.len() - 1
        });
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    /// The thing with a number.
    pub(super) fn get(&self, number: u32) -> Option<&T> {
        let (piece, at) = split(number);
        self.pieces.get(piece)?.get(at)?.as_ref()
    }

    /// The same, to be changed.
    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.place(number)?.as_mut()
    }

    /// Forgets a thing; its number will be given again.
    pub(super) fn remove(&mut self, number: u32) -> Option<T> {
        let thing = self.place(number)?.take()?;
        self.free.push(number);
        Some(thing)
    }

    fn place(&mut self, number: u32) -> Option<&mut Option<T>> {
        let (piece, at) = split(number);
        self.pieces.get_mut(piece)?.get_mut(at)
    }
}

fn split(number: u32) -> (usize, usize) {
    let number = usize::try_from(number).unwrap_or(usize::MAX);
    (number / PIECE, number % PIECE)
}

/// Things in one piece.
const PIECE: usize = 1_024;
