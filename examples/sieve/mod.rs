//! A sieve that extends a list of primes.

/// The maximum number of candidates that are sieved at once.
const SEGMENT: u64 = 1 << 14;

/// Returns the next primes after `primes`. At least one, because a prime exists between a prime and
/// its square.
pub(crate) fn following(primes: &[u64]) -> Vec<u64> {
    let Some(last) = primes.last() else {
        return vec![2];
    };
    let begin = last + 1;
    let end = (last * last).min(begin + SEGMENT);
    let mut is_composite = vec![false; (end - begin) as usize];
    for prime in primes.iter().take_while(|prime| *prime * *prime < end) {
        let first = begin.next_multiple_of(*prime);
        let multiples = (first..end).step_by(*prime as usize);
        multiples.for_each(|multiple| is_composite[(multiple - begin) as usize] = true);
    }
    (begin..end)
        .zip(is_composite)
        .filter_map(|(number, is_composite)| (!is_composite).then_some(number))
        .collect()
}
