//! The HTML of our own pages: one small document, no outside assets, light and dark.
//!
//! Must never happen here: text of others unescaped, or a script besides the one below.

use crate::refusal::{Kind, Refusal};

/// Its Content-Security-Policy: the one inline style and script of [`render`], and asking our own
/// origin whether the workspace is awake.
pub(crate) const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; \
     script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'";

const STYLE: &str = "\
:root{color-scheme:light dark;--bg:#f6f7f9;--fg:#1c2128;--mute:#667;--card:#fff;--line:#e3e6ea;--go:#2f6feb}\
@media(prefers-color-scheme:dark){:root{--bg:#0e1116;--fg:#e6eaf0;--mute:#8b95a5;--card:#161b22;--line:#2a313c;--go:#6ea8fe}}\
*{box-sizing:border-box}\
body{margin:0;min-height:100vh;display:grid;place-items:center;padding:1.5rem;background:var(--bg);color:var(--fg);\
font:16px/1.55 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}\
main{width:100%;max-width:34rem;background:var(--card);border:1px solid var(--line);border-radius:14px;padding:2rem}\
h1{font-size:1.25rem;margin:0 0 .5rem}p{margin:.4rem 0}\
ul{list-style:none;padding:0;margin:1rem 0 0;display:flex;flex-wrap:wrap;gap:.5rem}\
a{display:block;color:var(--go);text-decoration:none;border:1px solid var(--line);border-radius:8px;padding:.3rem .7rem}\
a:hover,a:focus-visible{border-color:var(--go)}\
footer{margin-top:1.4rem;color:var(--mute);font:12px/1.4 ui-monospace,monospace}\
.bar{height:4px;border-radius:2px;background:var(--line);overflow:hidden;margin-top:1.2rem}\
.bar i{display:block;height:100%;width:35%;background:var(--go);animation:go 1.4s ease-in-out infinite}\
@keyframes go{from{transform:translateX(-110%)}to{transform:translateX(310%)}}\
@media(prefers-reduced-motion:reduce){.bar i{animation:none;width:100%}}";

/// Asks until the answer is not the gateway's own 'not yet', then shows it. The question itself is
/// held by the gateway while the workspace wakes, so this is not a busy loop.
const CONTINUE: &str = "\
(async()=>{for(;;){try{const r=await fetch(location.href,{method:'HEAD',cache:'no-store',redirect:'manual'});\
const e=r.headers.get('x-fleeks-error');\
if(e!=='waking'&&e!=='wake_timeout'&&e!=='busy'&&e!=='unavailable'){location.reload();return}}catch{}\
await new Promise(f=>setTimeout(f,1000))}})()";

/// The page for a refusal.
pub(crate) fn render(refusal: &Refusal, request_id: &str) -> String {
    let title = title(refusal.kind);
    let mut html = String::with_capacity(3 * 1024);
    html.push_str("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">");
    html.push_str("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">");
    html.push_str("<meta name=\"robots\" content=\"noindex\">");
    let waking = refusal.kind == Kind::Waking;
    if waking {
        html.push_str("<noscript><meta http-equiv=\"refresh\" content=\"2\"></noscript>");
    }
    html.push_str("<title>");
    html.push_str(title);
    html.push_str("</title><style>");
    html.push_str(STYLE);
    html.push_str("</style></head><body><main><h1>");
    html.push_str(title);
    html.push_str("</h1><p>");
    escape_into(&mut html, &refusal.detail);
    html.push_str("</p>");
    if waking {
        html.push_str(
            "<div class=\"bar\" role=\"progressbar\" aria-label=\"Waking\"><i></i></div>",
        );
    }
    if !refusal.links.is_empty() {
        html.push_str("<ul>");
        for (text, address) in &refusal.links {
            html.push_str("<li><a href=\"");
            escape_into(&mut html, address);
            html.push_str("\">");
            escape_into(&mut html, text);
            html.push_str("</a></li>");
        }
        html.push_str("</ul>");
    }
    html.push_str("<footer>");
    html.push_str(&refusal.kind.status().to_string());
    html.push_str(" \u{b7} ");
    escape_into(&mut html, request_id);
    html.push_str("</footer></main>");
    if waking {
        html.push_str("<script>");
        html.push_str(CONTINUE);
        html.push_str("</script>");
    }
    html.push_str("</body></html>\n");
    html
}

fn title(kind: Kind) -> &'static str {
    match kind {
        Kind::NotFound => "Nothing here",
        Kind::NotListening => "No app on this port",
        Kind::AppFailed => "The app broke off",
        Kind::AppTimeout => "The app does not answer",
        Kind::Private => "This preview is private",
        Kind::Shared => "Shared with you",
        Kind::Asleep => "This workspace is asleep",
        Kind::Waking => "Waking the workspace",
        Kind::WakeTimeout | Kind::WakeFailed => "The workspace did not wake",
        Kind::Busy => "Too many are waiting",
        Kind::Unavailable => "Not reachable right now",
        Kind::Misdirected => "Wrong server",
        Kind::Internal => "Something went wrong",
        Kind::BadRequest
        | Kind::MethodNotAllowed
        | Kind::ExpectationFailed
        | Kind::VersionNotSupported
        | Kind::HeadersTooLarge
        | Kind::HeadTimeout
        | Kind::BodyTooSlow => "The request was refused",
    }
}

fn escape_into(html: &mut String, text: &str) {
    for letter in text.chars() {
        match letter {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            _ => html.push(letter),
        }
    }
}
