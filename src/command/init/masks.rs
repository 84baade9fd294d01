//! `privacy_masks` ⇄ the polygons of each source.

use super::fields::PRIVACY_MASKS;
use crate::error::Result;
use crate::geometry::{MAX_POINTS, MAX_POLYGONS, Polygon};
use crate::json::Value;
use crate::schema::{invalid, python};

/// Fewest corners that something lies between.
const MIN_POINTS: usize = 3;

/// The polygons of each of so many sources. How deep the lists are says whether they are for all of them or
/// for each.
pub(super) fn read(value: Option<&Value>, sources: usize) -> Result<Vec<Vec<Polygon>>> {
    let Some(value) = value else { return Ok(vec![Vec::new(); sources]) };
    let list = items(value).ok_or_else(|| PRIVACY_MASKS.refuse(value))?;
    // For each: a list of lists of polygons (or of nothing), where a polygon is a list of corners.
    let is_corner = |value: &Value| {
        items(value).is_some_and(|corner| corner.iter().all(|number| items(number).is_none()))
    };
    let is_polygon = |value: &Value| items(value).is_some_and(|points| points.first().is_some_and(is_corner));
    if list.first().is_none_or(is_polygon) {
        return Ok(vec![polygons(list)?; sources]);
    }
    if list.len() != 1 && list.len() != sources {
        return Err(invalid(format!("privacy_masks has {} entries for {sources} sources", list.len())));
    }
    let each = list.iter().map(|one| match one {
        Value::Null => Ok(Vec::new()),
        one => polygons(items(one).ok_or_else(|| PRIVACY_MASKS.refuse(one))?),
    });
    let mut each = each.collect::<Result<Vec<_>>>()?;
    if let ([one], true) = (each.as_slice(), sources > 1) {
        each = vec![one.clone(); sources];
    }
    Ok(each)
}

fn items(value: &Value) -> Option<&[Value]> {
    if let Value::Array(items) = value { Some(items) } else { None }
}

fn polygons(list: &[Value]) -> Result<Vec<Polygon>> {
    if list.len() > MAX_POLYGONS {
        return Err(invalid(format!(
            "privacy_masks: a source has at most {MAX_POLYGONS} polygons, not {}",
            list.len()
        )));
    }
    list.iter().map(polygon).collect()
}

fn polygon(value: &Value) -> Result<Polygon> {
    let points = items(value).ok_or_else(|| PRIVACY_MASKS.refuse(value))?;
    if !(MIN_POINTS..=MAX_POINTS).contains(&points.len()) {
        let count = points.len();
        return Err(invalid(format!(
            "privacy_masks: a polygon has {MIN_POINTS} to {MAX_POINTS} corners, not {count}"
        )));
    }
    points.iter().map(corner).collect::<Result<_>>().map(Polygon)
}

fn corner(value: &Value) -> Result<[f64; 2]> {
    let wrong = || {
        invalid(format!("privacy_masks: a corner is [x, y], each from 0 to 1, not {}", python::repr(value)))
    };
    let fraction =
        |value: &Value| value.as_f64().filter(|number| (0.0..=1.0).contains(number)).ok_or_else(wrong);
    match items(value) {
        Some([x, y]) => Ok([fraction(x)?, fraction(y)?]),
        _ => Err(wrong()),
    }
}

/// As [`read`] takes it for each source, and as `status` shows it.
pub fn write(polygons: &[Polygon]) -> Value {
    let corner = |[x, y]: &[f64; 2]| Value::Array(vec![Value::Float(*x), Value::Float(*y)]);
    let polygon = |Polygon(points): &Polygon| Value::Array(points.iter().map(corner).collect());
    Value::Array(polygons.iter().map(polygon).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::json::parse_str;

    fn counts(text: &str, sources: usize) -> Result<Vec<usize>> {
        read(Some(&parse_str(text).unwrap()), sources).map(|each| each.iter().map(Vec::len).collect())
    }

    #[test]
    fn one_list_is_for_all_and_a_list_of_lists_for_each() {
        let one = "[[0,0],[1,0],[1,1]]";
        assert_eq!(counts("[]", 2).unwrap(), [0, 0]);
        assert_eq!(counts(&format!("[{one}]"), 2).unwrap(), [1, 1]);
        assert_eq!(counts(&format!("[{one},{one}]"), 1).unwrap(), [2]);
        assert_eq!(counts(&format!("[[{one},{one}],[{one}]]"), 2).unwrap(), [2, 1]);
        assert_eq!(counts(&format!("[[],[{one}]]"), 2).unwrap(), [0, 1]);
        assert_eq!(counts(&format!("[null,[{one}]]"), 2).unwrap(), [0, 1]);
        assert_eq!(counts(&format!("[[{one}]]"), 3).unwrap(), [1, 1, 1]);
        assert!(counts(&format!("[[{one}],[{one}]]"), 3).is_err());
        assert!(counts(&format!("[{}]", [one; MAX_POLYGONS + 1].join(",")), 1).is_err());
        for wrong in [
            "[5]",
            "[[5]]",
            "[[[5]]]",
            "[[[[5]]]]",
            "[[[[[0]]]]]",
            "{}",
            "[{}]",
            "[[[]]]",
            "[[[[]]]]",
            "[[null]]",
        ] {
            assert!(counts(wrong, 1).is_err(), "{wrong}");
        }
    }
}
