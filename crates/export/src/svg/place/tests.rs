use proptest::prelude::*;

use super::*;

fn size(width: f64, height: f64) -> Size {
    Size { width, height }
}

/// Points along a route, curves sampled as they are drawn: cubic, with level ends and controls half way.
fn points(route: &Route) -> Vec<Point> {
    let mut points = Vec::new();
    for pair in route.level.windows(2) {
        let ((x0, x1, y0), (x2, _, y1)) = (pair[0], pair[1]);
        points.extend([Point { x: x0, y: y0 }, Point { x: f64::midpoint(x0, x1), y: y0 }]);
        for step in 0..=20 {
            let t = f64::from(step) / 20.0;
            let ease = t * t * (3.0 - 2.0 * t);
            let (a, b, m) = (1.0 - t, t, f64::midpoint(x1, x2));
            let x = a * a * a * x1 + 3.0 * a * b * m + b * b * b * x2;
            points.push(Point { x, y: y0 + (y1 - y0) * ease });
        }
    }
    let &(x0, x1, y) = route.level.last().expect("a route has two ends");
    points.extend([x0, f64::midpoint(x0, x1), x1].map(|x| Point { x, y }));
    points
}

fn inside(point: &Point, (center, size): (Point, Size)) -> bool {
    let clear = 0.5;
    (point.x - center.x).abs() < size.width / 2.0 - clear
        && (point.y - center.y).abs() < size.height / 2.0 - clear
}

fn overlap((a, s): (Point, Size), (b, t): (Point, Size)) -> bool {
    (a.x - b.x).abs() < (s.width + t.width) / 2.0 && (a.y - b.y).abs() < (s.height + t.height) / 2.0
}

fn any_wires() -> impl Strategy<Value = Vec<Wire>> {
    let label = prop::option::of(30f64..140.0);
    let wire = (0usize..6, 1usize..4, label).prop_map(|(from, step, width)| Wire {
        from,
        to: (from + step).min(6),
        label: width.map(|width| size(width, 24.0)),
    });
    prop::collection::vec(wire, 0..14)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_lies_on_a_label_or_a_box(wires in any_wires()) {
        let degree = |node| wires.iter().filter(|w| w.from == node || w.to == node).count() as f64;
        let boxes: Vec<_> = (0..7).map(|node| size(34.0, 34f64.max(PORT * degree(node) + 8.0))).collect();
        let placed = place(&boxes, &wires);
        let labels = placed.routes.iter().zip(&wires).filter_map(|(r, w)| Some((r.label?, w.label?)));
        let solid: Vec<_> = placed.boxes.iter().copied().chain(labels).collect();
        for (i, &a) in solid.iter().enumerate() {
            prop_assert!(solid[i + 1..].iter().all(|&b| !overlap(a, b)));
        }
        for (route, wire) in placed.routes.iter().zip(&wires) {
            prop_assert_eq!(route.label.is_some(), wire.label.is_some());
            let own = route.label.zip(wire.label);
            for &thing in &solid {
                let is_own = own.is_some_and(|(at, _)| at.x == thing.0.x && at.y == thing.0.y);
                prop_assert!(is_own || !points(route).iter().any(|point| inside(point, thing)));
            }
        }
    }

    #[test]
    fn the_same_wires_are_placed_the_same(wires in any_wires()) {
        let boxes = [size(34.0, 34.0); 7];
        prop_assert_eq!(format!("{:?}", place(&boxes, &wires)), format!("{:?}", place(&boxes, &wires)));
    }
}

/// Four nodes, all joined: drawn in the plane if one order of the slots is found.
#[test]
fn the_cell_of_nas_bench_201_is_drawn_without_a_crossing() {
    let label = Some(size(105.0, 24.0));
    let pairs = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)];
    let wires = pairs.map(|(from, to)| Wire { from, to, label });
    let layers = Layers::new(&[size(34.0, 37.0); 4], &wires);
    let fewest = (0..STARTS.0).map(|start| layers.crossings(&layers.ordered(start))).min();
    assert_eq!(fewest, Some(0));
}
