;; The inside of a JSON string, [RFC 8259 §7]: what long-string.ts runs, 16 bytes at a time.
(module
  ;; From 0 the text, 64 KiB; behind it a byte for each of 256: 1 may follow a backslash, 2 is a hex digit.
  (memory (export "memory") 2)
  (data (i32.const 0x10022) "\01")                                         ;; "
  (data (i32.const 0x1002f) "\01\02\02\02\02\02\02\02\02\02\02")           ;; / 0-9
  (data (i32.const 0x10041) "\02\02\02\02\02\02")                          ;; A-F
  (data (i32.const 0x1005c) "\01")                                         ;; \
  (data (i32.const 0x10061) "\02\03\02\02\02\03")                          ;; a-f, of which b and f both
  (data (i32.const 0x1006e) "\01\00\00\00\01\00\01")                       ;; n r t

  ;; The index of the first byte from 0 on that is no plain character and begins no whole, valid escape before $end; or $end.
  (func (export "skip") (param $end i32) (result i32)
    (local $from i32) (local $bytes v128) (local $stops i32) (local $at i32) (local $place i32)
    (loop $next
      (if (i32.ge_u (local.get $from) (local.get $end)) (then (return (local.get $end))))
      (local.set $bytes (v128.load (local.get $from)))
      ;; A bit for each that is a control character, a quote or a backslash.
      (local.set $stops (i8x16.bitmask (v128.or
        (i8x16.lt_u (local.get $bytes) (i8x16.splat (i32.const 0x20)))
        (v128.or
          (i8x16.eq (local.get $bytes) (i8x16.splat (i32.const 0x22)))
          (i8x16.eq (local.get $bytes) (i8x16.splat (i32.const 0x5c)))))))
      (loop $stop
        (if (i32.eqz (local.get $stops)) (then
          (local.set $from (i32.add (local.get $from) (i32.const 16)))
          (br $next)))
        (local.set $place (i32.ctz (local.get $stops)))
        (local.set $at (i32.add (local.get $from) (local.get $place)))
        (if (i32.ge_u (local.get $at) (local.get $end)) (then (return (local.get $end))))
        (if (i32.ne (i32.load8_u (local.get $at)) (i32.const 0x5c)) (then (return (local.get $at))))
        (if (i32.and (i32.load8_u offset=0x10000 (i32.load8_u offset=1 (local.get $at))) (i32.const 1)) (then
          (if (i32.gt_u (i32.add (local.get $at) (i32.const 2)) (local.get $end)) (then (return (local.get $at))))
          (if (i32.eq (local.get $place) (i32.const 15)) (then
            (local.set $from (i32.add (local.get $at) (i32.const 2)))
            (br $next)))
          ;; What it escapes is no stop.
          (local.set $stops (i32.and (local.get $stops) (i32.shl (i32.const -4) (local.get $place))))
          (br $stop)))
        ;; \uXXXX
        (if (i32.gt_u (i32.add (local.get $at) (i32.const 6)) (local.get $end)) (then (return (local.get $at))))
        (if (i32.ne (i32.load8_u offset=1 (local.get $at)) (i32.const 0x75)) (then (return (local.get $at))))
        (if (i32.eqz (i32.and (i32.const 2)
            (i32.and
              (i32.and
                (i32.load8_u offset=0x10000 (i32.load8_u offset=2 (local.get $at)))
                (i32.load8_u offset=0x10000 (i32.load8_u offset=3 (local.get $at))))
              (i32.and
                (i32.load8_u offset=0x10000 (i32.load8_u offset=4 (local.get $at)))
                (i32.load8_u offset=0x10000 (i32.load8_u offset=5 (local.get $at)))))))
          (then (return (local.get $at))))
        (local.set $stops (i32.and (local.get $stops) (i32.shl (i32.const -2) (local.get $place))))
        (br $stop)))
    (unreachable)))
