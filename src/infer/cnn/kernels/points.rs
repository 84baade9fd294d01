//! The points at which Winograd's transforms take their polynomials.

/// The finite points of the transforms besides 0: ±`near` and ±`far`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Points {
    pub near: f32,
    pub far: f32,
}

/// Of 32-bit floats: the cheapest.
pub(crate) const POINTS: Points = Points { near: 1.0, far: 2.0 };

#[cfg_attr(not(any(test, target_arch = "aarch64")), allow(dead_code))] // only arm64 computes with it
/// Of binary16, where the usual ones lose twice as much as these (simulated: errors of layers of 64 to 256
/// channels are 0.9 % of their root mean square with 1 and 2, 0.45 % with these, as with √½ and √2, whose
/// powers are no short fractions).
pub(crate) const FINE_POINTS: Points = Points { near: 0.625, far: 1.5 };

impl Points {
    /// How the weights of one kernel spread over a column of products: `G`.
    pub(crate) fn spread(self) -> [[f64; 3]; 6] {
        let (a, b) = (f64::from(self.near), f64::from(self.far));
        let at = |x: f64, other: f64| {
            let share = 1.0 / (2.0 * x * x * (x * x - other * other));
            [share, share * x, share * x * x]
        };
        [[1.0 / (a * a * b * b), 0.0, 0.0], at(a, b), at(-a, b), at(b, a), at(-b, a), [0.0, 0.0, 1.0]]
    }
}
