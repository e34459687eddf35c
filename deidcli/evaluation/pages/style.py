"""Style: how a page looks, by day, by night, on a phone and on paper; and the colours that plots share with it."""

from __future__ import annotations

# By day and by night, alike in hue; each has a contrast of 3 and more with the page (WCAG 1.4.11).
SERIES = (
    ("#2f6ea8", "#6fb1e8"), ("#c0562b", "#f0925f"), ("#3a7d44", "#7cc588"), ("#8a4d9e", "#c793da"),
    ("#9a7b00", "#d9bd4a"), ("#1d7f86", "#5cc4cb"), ("#b03a5b", "#ef8aa6"), ("#5d6470", "#a8b0bd"),
)  # fmt: skip
INK, FAINT, PAPER, RULE = ("#1d2126", "#e8e6e1"), ("#5b616b", "#a5abb5"), ("#fcfbf8", "#15181c"), ("#d8d5cd", "#363b43")
_NAMED = {"ink": INK, "faint": FAINT, "paper": PAPER, "rule": RULE, "card": ("#f3f1eb", "#1d2127"),
          "good": ("#256b43", "#80cb9d"), "fair": ("#825500", "#e2b75f"), "bad": ("#a32f20", "#f49a89"),
          "link": ("#1f5c94", "#8dbfec")}  # fmt: skip


def colours(night: bool) -> str:
    """The colours as custom properties of CSS."""
    named = {**_NAMED, **{f"s{number}": pair for number, pair in enumerate(SERIES, 1)}}
    return "".join(f"--{name}:{pair[night]};" for name, pair in named.items())


_LAYOUT = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);
 font:1.0625rem/1.6 Charter,"Bitstream Charter","Sitka Text",Cambria,Georgia,serif;overflow-wrap:break-word}
main{max-width:64rem;margin:0 auto;padding:clamp(1rem,4vw,3rem) clamp(1rem,4vw,2rem)}
h1,h2,h3,h4,table,figcaption,nav,summary,dl,.tag,.note,svg,.kicker{
 font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","Liberation Sans",sans-serif}
h1{font-size:clamp(1.6rem,5vw,2.3rem);line-height:1.15;margin:.2rem 0 .6rem;letter-spacing:-.015em;text-wrap:balance}
h2{font-size:1.35rem;line-height:1.25;margin:3rem 0 .7rem;padding-top:.7rem;border-top:2px solid var(--ink)}
h3{font-size:1.06rem;line-height:1.35;margin:1.9rem 0 .4rem}
h4{font-size:.95rem;margin:1.4rem 0 .3rem}
p,ul,ol{max-width:42rem;margin:.55rem 0}
ul,ol{padding-left:1.3rem}
li{margin:.28rem 0}
li::marker{color:var(--faint)}
.works li::marker{content:"○  ";color:var(--bad)}
a{color:var(--link)}
:focus-visible{outline:2px solid var(--link);outline-offset:2px}
.kicker,.note,figcaption,caption{color:var(--faint);font-size:.85rem;line-height:1.45}
.kicker{margin:0}.whole{white-space:nowrap}
nav{font-size:.9rem;margin:1.4rem 0 0}
nav a{display:inline-block;margin-right:1.1rem;padding:.3rem 0}
.warn{border-left:4px solid var(--fair);background:var(--card);padding:.6rem .9rem;max-width:42rem;
 border-radius:0 4px 4px 0}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,15rem),1fr));gap:.8rem;padding:0;
 margin:1rem 0;max-width:none;list-style:none}
.cards>li{background:var(--card);border-radius:6px;padding:.8rem 1rem;margin:0;min-width:0}
.cards strong{display:block;margin-top:.15rem;font:600 1.55rem/1.2 system-ui,sans-serif}
.cards p{margin:.2rem 0 0;font-size:.93rem;line-height:1.45}
.scroll{position:relative;overflow-x:auto;max-width:100%;margin:.7rem 0 1.2rem;border-bottom:1px solid var(--rule);
 background:linear-gradient(to left,var(--paper) 40%,transparent) right/2.5rem 100% no-repeat local,
 linear-gradient(to left,var(--rule),transparent) right/.9rem 100% no-repeat scroll}
table{border-collapse:collapse;font-size:.88rem;line-height:1.4;min-width:100%;font-variant-numeric:tabular-nums}
caption{text-align:left;padding:.2rem 0 .5rem;caption-side:top}
th,td{padding:.42rem .9rem .42rem 0;text-align:left;vertical-align:top;border-top:1px solid var(--rule)}
th:last-child,td:last-child{padding-right:.2rem}
thead th{font-weight:600;vertical-align:bottom;border-top:0;border-bottom:1px solid var(--ink);white-space:nowrap}
tbody th{font-weight:600;min-width:8rem;max-width:18rem}
tbody th,thead th:first-child{position:sticky;left:0;background:var(--paper)}
td{white-space:nowrap}
td .words{display:block;white-space:normal;min-width:13rem;max-width:24rem}
td small,th small{display:block;color:var(--faint);font-size:.8rem;font-weight:400}
.tag{display:inline-block;font-size:.8rem;font-weight:600;white-space:nowrap}
.good{color:var(--good)}.fair{color:var(--fair)}.bad{color:var(--bad)}.none{color:var(--faint)}
.bar{display:block;position:relative;height:.5rem;width:7rem;background:var(--rule);border-radius:2px;
 margin:.3rem 0 .15rem}
.bar i{position:absolute;top:0;bottom:0;left:0;background:var(--s1);border-radius:2px}
.bar b{position:absolute;top:-.15rem;bottom:-.15rem;border:1.5px solid var(--ink);border-width:0 1.5px}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,20rem),1fr));gap:1.4rem 1.2rem;margin:.8rem 0;
 align-items:start}
figure{position:relative;margin:0;min-width:0}
figure svg,figure img{display:block;max-width:100%;height:auto}
figure.sheet{margin:1rem 0}figure.sheet img{max-width:none;width:max(100%,38rem)}
figcaption{margin-top:.3rem;max-width:42rem}
.heat td,.heat th{text-align:right;padding:.35rem .55rem;border:1px solid var(--paper)}
.heat tbody th{min-width:0}
.heat{min-width:0}
.heat td{background:color-mix(in srgb,var(--s1) calc(var(--p)*1%),var(--card))}
.heat td.deep{color:var(--paper)}
details{border-top:1px solid var(--rule);padding:.2rem 0}
summary{cursor:pointer;padding:.55rem 0;font-weight:600;font-size:.95rem}
summary small{color:var(--faint);font-weight:400;margin-left:.4rem}
dl{display:grid;grid-template-columns:minmax(7rem,auto) 1fr;gap:.2rem 1rem;font-size:.88rem;max-width:48rem;
 margin:.5rem 0}
dt{color:var(--faint)}dd{margin:0;min-width:0;overflow-wrap:anywhere}
footer{margin-top:3rem;padding-top:.8rem;border-top:1px solid var(--rule)}
.unseen{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
@media(max-width:30rem){
 body{font-size:1rem}h2{margin-top:2.2rem}tbody th{min-width:5.5rem;max-width:7.5rem}
 dl{grid-template-columns:1fr}dd{margin-bottom:.3rem}
}
"""
_PRINT = """
@media print{
 :root{--paper:#fff}body{font-size:10pt}main{max-width:none;padding:0}nav{display:none}
 h2,h3,summary{break-after:avoid}figure,tr,.cards>li{break-inside:avoid}
 .scroll{overflow:visible;background:none}figure.sheet img{width:100%}
 table{font-size:8pt}td,thead th{white-space:normal}
 details>*{display:block}details>dl{display:grid}details::details-content{content-visibility:visible;display:block}
 .heat td,.bar,.bar i,.cards>li{-webkit-print-color-adjust:exact;print-color-adjust:exact}
 @page{margin:16mm}
}
"""
# On paper it is day, however the machine that prints is set.
CSS = (
    f":root{{color-scheme:light dark;{colours(False)}}}"
    f"@media screen and (prefers-color-scheme:dark){{:root{{{colours(True)}}}}}{_LAYOUT}{_PRINT}"
)
