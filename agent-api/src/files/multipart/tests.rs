use super::*;
use crate::streams::collect;
use proptest::prelude::*;

/// A form as httpx writes it.
fn body(boundary: &str, fields: &[(&str, &str)], file: &[u8], after: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    let field = |out: &mut Vec<u8>, name: &str, value: &str| {
        out.extend(
            format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            )
            .bytes(),
        );
    };
    for (name, value) in fields {
        field(&mut out, name, value);
    }
    out.extend(format!("--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"ü.bin\"\r\nContent-Type: application/octet-stream\r\n\r\n").bytes());
    out.extend(file);
    out.extend(b"\r\n");
    for (name, value) in after {
        field(&mut out, name, value);
    }
    out.extend(format!("--{boundary}--\r\n").bytes());
    out
}

fn chunked(bytes: &[u8], size: usize) -> ByteStream {
    let chunks: Vec<_> = bytes
        .chunks(size)
        .map(|part| Ok(Bytes::copy_from_slice(part)))
        .collect();
    stream::iter(chunks).boxed()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(future)
}

const FIELDS: &[(&str, &str)] = &[("path", "data/ü.bin"), ("overwrite", "true")];

proptest! {
    #[test]
    fn a_sniffed_form_is_read_whatever_its_chunks(
        boundary in "[A-Za-z0-9'()+_,./:=?-]{1,70}",
        file in proptest::collection::vec(any::<u8>(), 0..2000),
        size in 1_usize..400,
    ) {
        // The file must not hold the boundary, as for any writer of multipart.
        let needle = format!("\r\n--{boundary}");
        prop_assume!(!file.windows(needle.len()).any(|window| window == needle.as_bytes()));
        let bytes = body(&boundary, FIELDS, &file, &[]);
        run(async {
            let blame = Blame::default();
            let mut form = Form::open(Some("application/json"), chunked(&bytes, size), &blame).await.unwrap();
            assert_eq!(form.path.as_deref(), Some("data/ü.bin"));
            assert_eq!(form.overwrite, Some(true));
            let got = collect(form.file(), usize::MAX).await.unwrap().unwrap();
            assert_eq!(got, file);
            form.read_fields().await.unwrap();
        });
    }

    #[test]
    fn a_cut_form_is_an_error_never_a_shorter_file(
        file in proptest::collection::vec(any::<u8>(), 1..300),
        keep in 0.0_f64..1.0,
        size in 1_usize..100,
    ) {
        let bytes = body("XyZ", FIELDS, &file, &[]);
        // Without the last boundary's dashes nothing says that the file is complete.
        let whole = bytes.len() - "\r\n--XyZ--\r\n".len();
        let kept = &bytes[..(whole as f64 * keep) as usize];
        run(async {
            let blame = Blame::default();
            match Form::open(None, chunked(kept, size), &blame).await {
                Err(problem) => assert_eq!(problem.status(), StatusCode::BAD_REQUEST),
                Ok(mut form) => {
                    assert!(collect(form.file(), usize::MAX).await.is_err());
                    let engine = pool_backend::Error::new(pool_backend::ErrorKind::Internal, "x");
                    assert_eq!(blame.or(engine).status(), StatusCode::BAD_REQUEST);
                }
            }
        });
    }

    #[test]
    fn any_bytes_are_an_answer(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        prefix in prop_oneof![Just(""), Just("--"), Just("--a\r\n"), Just("--a\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n")],
    ) {
        let all = [prefix.as_bytes(), &bytes].concat();
        run(async {
            if let Ok(mut form) = Form::open(None, chunked(&all, 7), &Blame::default()).await {
                let _ = collect(form.file(), usize::MAX).await;
            }
        });
    }
}

#[test]
fn sniffing() {
    let table: &[(&[u8], Sniffed)] = &[
        (b"", Sniffed::MoreNeeded),
        (b"-", Sniffed::MoreNeeded),
        (b"--", Sniffed::MoreNeeded),
        (b"--abc", Sniffed::MoreNeeded),
        (b"--abc\r", Sniffed::MoreNeeded),
        (b"--abc\r\nx", Sniffed::Boundary("abc".to_owned())),
        (b"--\r\n", Sniffed::NotMultipart),
        (b"--abc \r\n", Sniffed::NotMultipart),
        (b"--abc\n", Sniffed::NotMultipart),
        (b"{\"path\":1}", Sniffed::NotMultipart),
        (b"--a\"b\r\n", Sniffed::NotMultipart),
    ];
    for (head, expected) in table {
        assert_eq!(sniff(head), *expected, "{}", String::from_utf8_lossy(head));
    }
    let longest = format!("--{}\r\n", "a".repeat(70));
    assert!(matches!(sniff(longest.as_bytes()), Sniffed::Boundary(_)));
    let too_long = format!("--{}\r\n", "a".repeat(71));
    assert_eq!(sniff(too_long.as_bytes()), Sniffed::NotMultipart);
}

#[tokio::test]
async fn correct_multipart_and_late_fields() {
    let bytes = body("b", &[("path", "a")], b"content", &[("overwrite", "True")]);
    let kind = "multipart/form-data; boundary=b";
    let blame = Blame::default();
    let mut form = Form::open(Some(kind), chunked(&bytes, 10), &blame)
        .await
        .unwrap();
    assert_eq!((form.path.as_deref(), form.overwrite), (Some("a"), None));
    assert_eq!(collect(form.file(), 100).await.unwrap().unwrap(), "content");
    form.read_fields().await.unwrap();
    assert_eq!(form.overwrite, Some(true));
}

#[tokio::test]
async fn a_huge_field_is_refused() {
    let value = "x".repeat(1 << 20);
    let bytes = body("b", &[("path", &value)], b"", &[]);
    let result = Form::open(None, chunked(&bytes, 1000), &Blame::default()).await;
    assert_eq!(result.err().unwrap().status(), StatusCode::BAD_REQUEST);
}
