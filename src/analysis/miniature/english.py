"""English paragraphs on quantitative tightening and the US 10-year yield, from a grammar of our own.

Every figure in the text is drawn at random: the miniature knows no market data.
"""

from __future__ import annotations

import random

from .grammar import Grammar, sentence_case

SKEW = 0.1
CHANNELS = {"tga": ("TGA", "Treasury General"), "rrp": ("RRP", "reverse repo"), "reserves": ("reserve",)}

RULES = {
    "fed": "{the Fed|the Federal Reserve|the central bank|the FOMC}",
    "treasury": "{the Treasury|the US Treasury|the government|Washington}",
    "qt": "{quantitative tightening|QT|balance sheet runoff|the runoff|the shrinking balance sheet|portfolio runoff|tightening}",
    "tga": "{the TGA|the Treasury General Account|the Treasury's account at the Fed|this account|the Treasury cash balance}",
    "rrp": "{the RRP facility|the reverse repo facility|the overnight RRP|the RRP|the facility}",
    "reserves": "{bank reserves|reserves|reserve balances|bank balances at the Fed|liquid bank assets}",
    "yield": "{the 10Y yield|the ten-year yield|the US 10Y treasury yield|the long end|the long-term yield|the 10Y|the benchmark}",
    "premium": "{the term premium|the duration premium|compensation for duration|the price of duration risk|the risk premium}",
    "dealers": "{primary dealers|dealers|banks|leveraged funds|asset managers|real money accounts|hedge funds|pension funds|"
    "foreign investors|insurers}",
    "funds": "{money market funds|cash investors|government money funds|liquidity funds|cash managers|money funds}",
    "move": "{rise|move higher|drift upward|climb|edge up|reprice|come under pressure|sell off|increase|adjust|cheapen|back up}",
    "fell": "{fell|declined|dropped|shrank|slid|came down|went down|decreased}",
    "period": "{in late 2025|during 2025|over the past year|in early 2026|since the spring|between 2025 and 2026|this year|"
    "in recent months|so far in 2026|since last summer}",
    "size": "{sharply|gradually|steadily|quickly|slowly|noticeably|faster than expected|again|further|markedly}",
    "bn": "{<200~900>|<40~160>}",
    "bp": "{<2~9>|<10~40>|several|a few} basis points",
    "because": "{because|since|as|given that}",
    "so": "{so|which is why|and therefore|and for that reason|so that|and in turn}",
    "analysts": "{analysts|strategists|desk economists|many investors|market participants|researchers|most models|some "
    "economists|several studies}",
    "think": "{estimate|expect|argue|believe|suggest|note|assume|report|find}",
    "repo": "{repo rates|funding costs|overnight rates|financing spreads|money market rates|repo spreads}",
    "adv": "{|||often |typically |usually |clearly |partly |eventually |quietly |generally |sometimes |directly |mostly }",
    "start": "{||||||in practice, |at present, |for now, |historically, |on balance, |in this phase, |in most cases, |as a rule, |"
    "moreover, |in addition, |more importantly, |at the margin, |in our view, |over time, |broadly speaking, }",
    "end": "{|||||||||, as in 2019|, at least for now|, all else equal|, on past form|, according to dealers|, as history shows|, with some delay|"
    ", despite lower inflation| this time| in many cases}",
}

INTRO = (
    (
        "@qt @adv{affects|influences|moves|shapes} @yield {mainly|chiefly|largely|above all} {through|by way of} {liquidity|"
        "the supply of reserves|dollar funding markets|the amount of cash in the system} {rather than|more than|and not "
        "only through} {the policy rate|the level of short rates|forward guidance|signals about rates}.",
        "{when|as|whenever} @fed @adv{lets bonds mature|stops reinvesting|shrinks its portfolio|reduces its holdings}, "
        "{private investors|the market|other buyers|households and funds} {must absorb|have to absorb|need to finance|"
        "take on} {more duration|more supply|additional Treasury debt|a larger share of issuance}, @so @yield {tends to|"
        "can|may|usually will} @move.",
        "{the link between|the relation between|the connection between} @qt and @yield {is indirect|is not mechanical|changes "
        "over time|depends on who holds the cash}, {but|yet|although} {three channels|three routes|three forces} "
        "@adv{matter most|explain most of it|dominate|deserve attention}.",
    ),
    (
        "@period, {holdings|securities held outright|the portfolio of Treasuries and mortgages} @fell @size, {while|and|"
        "even as} the yield {traded|stayed|hovered|moved} {near|around|close to|above|below} <3.8~4.9> percent.",
        "{current data|recent data|the latest weekly figures|market data} @adv{show|point to|are consistent with} {a balance "
        "sheet|total assets|a portfolio} {near|of about|slightly below|just above} $<6.3~6.9> trillion, {down|lower} by "
        "{roughly|about|some|more than} $@bn billion {from a year earlier|since the peak|over twelve months}.",
        "@analysts @adv@think that {each|every} $<100~500> billion of runoff @adv{adds|contributes|brings} {about|roughly|up to|"
        "at least} @bp to @premium, {with wide uncertainty|other things equal|although estimates differ|once supply is "
        "taken into account}.",
    ),
)

SECTIONS = {
    "tga": (
        ("TGA drawdown", "The Treasury General Account", "The TGA channel", "Treasury cash and TGA drawdown"),
        (
            "{when|as|once|each time} @treasury @adv{draws down|spends from|runs down|uses} @tga, {cash|money|liquidity} "
            "@adv{flows|moves|returns} {into|to} {commercial banks|the banking system|private deposits|the economy} and "
            "@reserves {increase|rise|grow|recover}.",
            "{a drawdown of|a fall in|a lower balance in} @tga @adv{works against|offsets|masks|softens} @qt, @because {it "
            "adds|spending adds|each payment adds} {reserves|deposits|liquidity} to {banks|the private sector|the system}.",
            "@tga @fell {from|by} $@bn billion @period, {which|and this} @adv{supported|eased|improved|stabilized} "
            "{liquidity|funding conditions|demand for duration|auction results} {for a time|for several weeks|until the "
            "next refunding|before tax dates}.",
        ),
        (
            "{the transmission|the mechanism|the effect} @adv{reverses|turns|changes sign} {when|once|as soon as} the "
            "{account|balance|cash buffer} {is rebuilt|has to be refilled|grows again}: {bill issuance|new supply|heavier "
            "issuance} @adv{drains|absorbs|removes} {reserves|cash|deposits}, and @yield may @move.",
            "{after|following} {a debt ceiling episode|a debt limit agreement|the tax season|large refunding auctions}, "
            "the {rebuild|refill|restoration} of @tga @adv{takes|pulls|withdraws} {cash|liquidity|money} {from|out of} "
            "{banks|the market|money funds}, {and|so} {dealer balance sheets|bidders at auctions|term investors} "
            "@adv{demand|ask for|require} {a concession|higher yields|more premium}.",
            "{short-dated bills|bills|front-end paper} @adv{feel|absorb|carry} {the first effect|most of the effect|the shock "
            "first}, {while|but|and later} @yield @adv{reacts|responds|follows} {through|by way of|because of} {expected "
            "supply|@premium|tighter funding|weaker auction demand}.",
        ),
    ),
    "rrp": (
        ("RRP utilization", "The reverse repo buffer", "The RRP channel", "Use of the RRP facility"),
        (
            "@rrp @adv{acts as|serves as|has been|works like} {a buffer|a cushion|a shock absorber|a reservoir of cash}: "
            "{as long as|while|so long as} @funds @adv{hold|keep|park} {large balances|excess cash|idle cash} there, @qt "
            "@adv{drains|reduces|takes} {the facility|those balances|that cash} {first|before reserves|and not reserves}.",
            "{usage of|balances at|demand for} @rrp @fell @size {to|toward} {only $<20~90> billion|about $<90~200> "
            "billion|almost nothing|a small fraction of the peak} @period, {so|which means that} {the buffer|the cushion|"
            "the first line of defense} {is nearly exhausted|is largely gone|offers little protection|has become thin}.",
            "@funds @adv{shift|move|rotate|reallocate} {cash|balances|their money} {from|out of} @rrp {into|to|toward} "
            "{Treasury bills|bills|private repo|short coupons} {when|whenever|once} {bill yields|repo rates|market rates} "
            "@adv{exceed|rise above|trade over} {the RRP rate|the award rate|the floor}.",
        ),
        (
            "{once|when|after} the {facility|buffer|balance} is {empty|depleted|close to zero|drained}, {further|each "
            "additional month of|continued} @qt @adv{reduces|lowers|cuts} @reserves {one for one|directly|dollar for dollar}, "
            "and @repo @adv{become|turn|look} {more volatile|less stable|sensitive to month end}.",
            "{this|that|the shift} @adv{keeps|holds} {front-end rates|bill yields|the short end} {low|anchored|contained} "
            "{at first|for a while|in the early phase}, {but|yet|however} {it removes|it weakens|it uses up} {a source of "
            "demand|the marginal buyer|spare liquidity}, @so @premium can {widen|increase|return|build}.",
            "{without|lacking} {this cushion|the buffer|spare RRP cash}, {new supply|a heavy auction|a refunding surprise} "
            "{must be met|has to be funded|is financed} by @dealers, {and|whose balance sheets are limited, so} @yield "
            "can @move by @bp {in a few sessions|within days|around an auction|in a single week}.",
        ),
    ),
    "reserves": (
        ("Bank reserve scarcity", "Scarce reserves", "The reserve channel", "Reserves and funding stress"),
        (
            "{as|when|once} @reserves {approach|fall toward|decline to|reach} {the lowest comfortable level|an ample "
            "minimum|$<2.7~3.1> trillion|the point of scarcity}, {banks|large banks|treasurers|lenders} @adv{hoard|protect|"
            "conserve|hold on to} {liquidity|cash|balances} and {lend less|charge more|step back} in {repo|funding "
            "markets|the interbank market}.",
            "@reserves {stand|are|remain} {near|around|close to} $<2.8~3.3> trillion, {roughly|about|equal to} <9~13> "
            "percent of {GDP|bank assets|output}, {which|a level that} @analysts @adv{regard as|call|describe as} {ample|"
            "barely ample|close to scarce|adequate but uneven}.",
            "{scarcity|a shortage of reserves|a thin cushion of reserves} @adv{appears first|shows up|becomes visible} in "
            "@repo: {spikes|small jumps|pressures} at {quarter end|month end|tax dates|settlement dates} {become|grow} "
            "{larger|more frequent|harder to ignore}.",
        ),
        (
            "{higher|rising|volatile} {funding costs|financing costs|repo costs} @adv{make|render} {leveraged positions|basis "
            "trades|long positions in Treasuries} {less attractive|expensive|harder to hold}, @so @dealers @adv{reduce|cut|"
            "unwind|sell} {duration|exposure|inventory} and @yield may @move.",
            "{banks|lenders} {with fewer reserves|short of liquidity|under liquidity rules} @adv{buy fewer|sell some|hold "
            "fewer} {long bonds|Treasuries|notes}, {leaving|which leaves} @premium {higher|more volatile|exposed} {by|"
            "{?perhaps }by as much as} @bp.",
            "{if {stress|funding stress|pressure} {persists|becomes visible|spreads}|should {stress|pressure} {persist|spread}}, @fed {can|may|is likely to} "
            "{slow|end|pause|taper} @qt {or|and} {use|rely on|expand} {the standing repo facility|temporary operations|"
            "bill purchases}, {which|a step that} {would lower|would cap|could stabilize} @yield.",
        ),
    ),
}

INSIGHTS = (
    "{watch|track|monitor|follow} {weekly changes in|the level of|the trend in} @tga {and|together with} {refunding "
    "announcements|auction sizes|bill supply}, {and|then} {reduce|lighten|trim} {duration|long positions|exposure} {before|"
    "ahead of} {a rebuild|heavy supply|a large settlement}.",
    "{use|treat|read} {the spread between SOFR and the policy rate|month-end repo|@repo} as {a signal|an early warning|a "
    "gauge} of {scarcity|stress|tight reserves}; {a move of|more than} @bp {argues for|justifies|calls for} {steepeners|"
    "shorter duration|smaller positions|lower leverage}.",
    "{hedge|protect} {portfolios|long positions|the belly of the curve} with {futures|payer swaptions|options on ten-year "
    "notes|interest rate swaps} {around|before|near} {quarter end|auctions|policy meetings|tax dates}.",
    "{prefer|favor|hold} {the five-year sector|intermediate maturities|steepeners|floating-rate notes} {until|while|as long "
    "as} {reserves stabilize|the runoff continues|@premium is low|the buffer is thin}.",
    "{add|extend|buy} duration {when|once|only after} @fed {signals|announces|hints at} {an end to|a slower pace of|a pause "
    "in} @qt, {because|since} @premium {should|tends to|will likely} {compress|fall|fade}.",
    "{size|scale|limit} positions by {value at risk|expected volatility|liquidity|stress tests}: {a shock|a supply shock|a "
    "funding squeeze} can {move|push|lift} yields by @bp {in a day|overnight|within a week}.",
)

CLOSING = (
    "{in short|overall|taken together|in summary}, {the three channels|these forces|the channels} {reinforce|offset|"
    "interact with} {each other|one another}, and {the balance between them|the order in which they bind|the mix of "
    "liquidity} {decides|determines|drives} {how far|how fast|whether} @yield will @move.",
    "{the risk|the main risk|the key risk} {for|to} {this view|the outlook|duration} is {a sudden|an early|an unexpected} "
    "{end to runoff|shift in issuance|fall in growth|policy change}, {which would|and it could} {pull|bring|push} yields "
    "{lower|down} {quickly|within weeks|before positions adjust}.",
)

PROMPTS = (
    "{Explain|Describe|Summarize|Discuss|Outline} how {the Fed’s quantitative tightening (QT)|quantitative tightening|Fed "
    "balance sheet runoff|the shrinking Fed balance sheet} {affects|moves|influences} the US 10Y treasury yield through "
    "%A, %B and %C. {Include|Add|Give} {current data|data for 2025-2026|the transmission mechanism|numbers} and {three "
    "actionable insights|three insights|practical advice|a conclusion} for {fixed income traders|traders who manage "
    "duration risk|a portfolio manager|bond investors}.",
    "{How|Why} does {QT|quantitative tightening|the runoff of the Fed portfolio} {push up|change|matter for} the US 10Y "
    "treasury yield? {Discuss|Cover|Treat} %A, %B and %C, {with|and give} {advice for|insights for|conclusions for} "
    "{traders|fixed income traders|asset managers|a rates desk}.",
    "{Summarize|Describe|Explain} the role of %A in quantitative tightening. {Include|Also cover|Then discuss} %B, %C and "
    "the {transmission mechanism|path|link} to the US 10Y treasury yield {for a portfolio manager|for traders|in plain "
    "words|for a client note}.",
)
PROMPT_TERMS = {
    "tga": "{TGA drawdown|the TGA|the Treasury General Account}",
    "rrp": "{RRP utilization|the RRP facility|reverse repo balances}",
    "reserves": "{bank reserve scarcity|bank reserves|scarce reserves}",
}


def prompt(rng: random.Random) -> str:
    """One question of a user."""
    grammar = Grammar(RULES, skew=0.3)
    order = rng.sample(list(SECTIONS), 3)
    text = grammar.say(rng.choice(PROMPTS), rng)
    for slot, key in zip(("%A", "%B", "%C"), order, strict=True):
        text = text.replace(slot, grammar.say(PROMPT_TERMS[key], rng))
    return text


def answer(question: str, rng: random.Random) -> str:
    """One answer in Markdown: introduction, the three channels in the question's order, insights, closing."""
    grammar = Grammar(RULES, SKEW)

    def say(options: tuple[str, ...], framed: bool = True) -> str:
        template = rng.choice(options)
        if framed:
            template = f"@start{template[:-1]}@end."
        return sentence_case(grammar.say(template, rng))

    parts = [" ".join(say(slot) for slot in INTRO)]
    headed = rng.random() < 0.75
    for number, key in enumerate(order_of(question), 1):
        titles, opening, effect = SECTIONS[key]
        sentences = [say(opening)]
        if rng.random() < 0.2:
            sentences.append(_another(say, opening, sentences))
        sentences.append(say(effect))
        if rng.random() < 0.2:
            sentences.append(_another(say, effect, sentences))
        body = " ".join(sentences)
        parts.append(f"**{number}. {grammar.pick(titles, rng)}**\n{body}" if headed else body)
    count = 3 if "three" in question else rng.choice((2, 3))
    chosen = rng.sample(INSIGHTS, count)
    lead = grammar.pick(
        ("Insights for traders:", "Actionable insights:", "What to do:", "For fixed income traders:"), rng
    )
    parts.append("\n".join([lead, *(f"- {sentence_case(grammar.say(item, rng))}" for item in chosen)]))
    parts.append(say(CLOSING, framed=False))
    return "\n\n".join(parts)


def order_of(question: str) -> list[str]:
    """The channels in the order in which the question names them."""

    def first(names: tuple[str, ...]) -> int:
        places = [question.find(name) for name in names if name in question]
        return min(places, default=len(question))

    return sorted(CHANNELS, key=lambda key: first(CHANNELS[key]))


def _another(say, options: tuple[str, ...], already: list[str]) -> str:
    """A further sentence from the same slot that does not begin like one that is there."""
    for _ in range(8):
        sentence = say(options)
        if all(sentence[:12] != other[:12] for other in already):
            return sentence
    return sentence
