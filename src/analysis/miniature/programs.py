"""Python answers: varied, valid programs that fetch ^N225 with yfinance, and the talk around them.

Names are chosen once a program, so that later uses are copies; comments, docstrings, messages, order and
structure vary. Every program leaves the frame in a module-level name and prints it.
"""

from __future__ import annotations

import random
import textwrap

from .grammar import Grammar, sentence_case

SKEW = 0.2

RULES = {
    "get": "{fetch|download|load|retrieve|get|collect|read}",
    "gets": "{fetches|downloads|loads|retrieves|gets|collects|reads}",
    "index": "{the Nikkei 225|the Nikkei 225 index|^N225|the index}",
    "closes": "{monthly close prices|monthly closing prices|month-end closes|monthly prices|monthly closes}",
    "returns": "{monthly returns|month-over-month returns|monthly changes|percentage changes|returns}",
    "compute": "{compute|calculate|derive|add|work out}",
    "computes": "{computes|calculates|derives|adds}",
    "frame": "{DataFrame|pandas DataFrame|data frame|table|frame}",
    "missing": "{missing|absent|not available|empty|incomplete}",
    "from_yahoo": "{from Yahoo Finance|with yfinance|from yfinance|through yfinance|via Yahoo Finance}",
    "span": "{the past ten years|the last decade|the past 10 years|ten years|the requested period}",
    "rows": "{rows|months|observations|records|data points}",
}

OPENING = (
    "{Here is|Below is|This is} {a|one} {function|script|program|solution} that @gets @closes for @index and @computes "
    "@returns{?, with error handling and type hints}.",
    "{The following|This} {function|script|code|program} @gets @closes @from_yahoo{?, checks them} and @computes @returns.",
    "{You can|To} use yfinance to @get {the data|@closes|prices} and pandas to @compute @returns:",
)
CLOSING = (
    "{The function|The code|It} {raises|reports} {a clear error|an error|an exception} {if|when} {no data are|nothing "
    "is|the download is|prices are} {returned|found|available|empty}.",
    "{Install|You need} {the packages|the requirements|these libraries} {first|beforehand}: `pip install yfinance pandas "
    "matplotlib`.",
    "{The chart|The figure|The bar chart} {shows|displays|gives} {gains in green and losses in red|every month|@returns} "
    "and is {saved|written|stored} {to|as} {a PNG file|an image|disk}.",
    "{Adjust|Change|Set} the {arguments|parameters|constants} {to|if you want to} {study|analyze|compare} {another index|a "
    "longer period|other tickers}.",
)

FIRST_ROW_REMARK = (
    "{The first|Note that the first} {row|month|return} {is|has been} {dropped|removed|left out} {because|since|as} "
    "{it has no previous month|there is nothing to compare it with|its return is undefined}."
)

DOC_SUMMARY = (
    "@get @closes and @compute @returns.",
    "{Return|Build} a @frame {of|with} @closes and {@returns|their changes}.",
    "@get @closes {for|of} @index @from_yahoo.",
    "@compute @returns {for|of} @index {over|for} @span.",
)
TICKER_DOC = "{Ticker|Symbol|Yahoo symbol|Ticker symbol} {of|for} {the index|@index|the asset}{?, by default ^N225}."
YEARS_DOC = "{Number of years|Length of the history|How many years} {to @get|of history|of data|to look back}."
RESULT_DOC = "{Table|Frame|A DataFrame|Data} with {the columns|columns} date, close and monthly_return."
RAISES_DOC = "{If|When} {no data are|the data are|the history is|prices are} {@missing|returned empty}."

COMMENT = {
    "fetch": "{@get|Request} {the data|@closes|the price history|@span of data} {?@from_yahoo}",
    "flatten": "{Flatten|Simplify|Reduce} {the column index|the columns|a column MultiIndex}{? if needed}",
    "check": "{Check|Make sure|Verify} {that data arrived|the result|for missing data|that the answer is not empty}",
    "clean": "{Drop|Remove|Discard} {missing values|months without a price|empty rows|gaps}",
    "build": "{Build|Create|Assemble|Prepare} the {result|output|final @frame|tidy @frame}",
    "returns": "{@compute|Now @compute} @returns{| from the closes| in the last column}",
    "first": "{Drop|Remove|Skip} the first {row|month}{?, which has no return}",
    "plot": "{Draw|Plot|Chart} the @returns {as bars|as a bar chart|and save the chart|with one bar a month}",
    "example": "{Example usage|Example|Usage example|Run an example|Show the result}",
}

ERRORS = {
    "fetch": "{Could not|Failed to|Unable to|Cannot} {@get|request} {data|prices|history} for {ticker}",
    "empty": "{No data|No prices|Nothing|An empty @frame} {was returned|found|returned|available} for {ticker}",
    "column": "{The Close column is|Close prices are|The column Close is|Closing prices are} @missing",
    "short": "{Not enough|Too few} @rows {to @compute @returns|for @returns|were found}",
    "years": "{years must be|The number of years must be|Years should be} {positive|at least one|greater than zero}",
}
TITLES = "{Nikkei 225|^N225|Nikkei 225 (^N225)}{?:} {monthly returns|month-over-month returns|returns by month|Monthly returns}"


def prompt(rng: random.Random) -> str:
    """One request of a user."""
    grammar = Grammar(RULES, skew=0.3)
    return grammar.say(rng.choice(PROMPTS), rng)


PROMPTS = (
    "{Write|Create|Implement} a {Python function|typed Python function|Python script} {using|with} yfinance that @gets "
    "@closes for {the Nikkei 225 (^N225)|^N225} for {the past 10 years|the last ten years|a decade}, @computes "
    "{month-over-month returns|monthly returns}, and returns a pandas DataFrame with columns [date, close, monthly_return]. "
    "{Include|Add} {error handling for missing data|clear errors|an example usage block|a bar chart}{? and type hints}.",
    "{Using|With} yfinance and pandas, {implement|write|build} {a function|a small program|a script} that @gets {monthly data "
    "of|@closes for} {the Nikkei 225 (^N225)|^N225} for {the last 10 years|ten years} and @computes {monthly returns|"
    "month-over-month returns}. {The result needs|Return|I need} the columns date, close and monthly_return.",
    "{Write|Give me} {PEP 8 code|clean code|a script} that gets 10 years of @closes {of|for} ^N225 with yfinance. {Raise clear "
    "errors when data are missing|Handle missing data}, return a DataFrame with columns [date, close, monthly_return] and "
    "{show an example usage|save a chart|print the result}.",
)


def answer(question: str, rng: random.Random) -> str:
    """One answer: opening, a fenced program, closing remarks that are true of it."""
    grammar = Grammar(RULES, SKEW)
    opening = sentence_case(grammar.say(rng.choice(OPENING), rng))
    writer = _Writer(rng)
    remarks = [*CLOSING, FIRST_ROW_REMARK] if writer.drop_first else CLOSING
    closing = [sentence_case(grammar.say(item, rng)) for item in rng.sample(remarks, rng.choice((1, 1, 1, 2)))]
    return f"{opening}\n\n```python\n{writer.write()}```\n\n{' '.join(closing)}"


def program(rng: random.Random) -> str:
    """One runnable program."""
    return _Writer(rng).write()


class _Writer:
    """The choices of one program, and its parts in order."""

    def __init__(self, rng: random.Random):
        self.rng, self.grammar = rng, Grammar(RULES, SKEW)
        pick = self.pick
        self.function = f"{pick(('get', 'fetch', 'download', 'build'))}_" + pick(
            ("monthly_returns", "nikkei_returns", "nikkei_data", "n225_returns", "index_returns")
        )
        self.data = pick(("data", "raw", "history", "prices", "quotes"))
        self.out = pick(("df", "result", "frame", "returns", "table"))
        self.main = pick(("df", "result", "returns_df", "nikkei", "monthly"))
        self.years = pick(("years", "n_years", "lookback_years"))
        self.error = pick(("ValueError", "RuntimeError", "ValueError"))
        self.style = pick(("ticker", "download", "dates"))
        # yfinance gives two levels of columns for a download: asked away, or taken off afterwards.
        self.flatten = pick(("argument", "argument", "block"))
        self.plot = pick(("function", "inline"))
        self.drop_first = rng.random() < 0.6
        self.constants = rng.random() < 0.15

    def write(self) -> str:
        blocks = [self.imports()]
        if self.constants:
            blocks.append(f'TICKER = "^N225"\nCHART = "{self.chart()}"')
        blocks.append(self.fetcher())
        if self.plot == "function":
            blocks.append(self.plotter())
        blocks.append(self.example())
        return "\n\n\n".join(blocks) + "\n"

    # --- parts -----------------------------------------------------------------------------------------------------

    def imports(self) -> str:
        lines = ["import matplotlib.pyplot as plt", "import pandas as pd", "import yfinance as yf"]
        if self.rng.random() < 0.3:
            self.rng.shuffle(lines)
        if self.rng.random() < 0.1:
            lines.insert(0, "from __future__ import annotations\n")
        return "\n".join(lines)

    def fetcher(self) -> str:
        default = "TICKER" if self.constants else '"^N225"'
        head = f"def {self.function}(ticker: str = {default}, {self.years}: int = 10) -> pd.DataFrame:"
        body = [self.docstring()]
        if self.rng.random() < 0.12:
            body.append(f"if {self.years} < 1:\n    raise ValueError({self.message('years')})")
        body.append(self.fetch())
        if self.style != "ticker" and self.flatten == "block":
            body.append(
                self.comment("flatten")
                + f"if isinstance({self.data}.columns, pd.MultiIndex):\n"
                + f"    {self.data}.columns = {self.data}.columns.get_level_values(0)"
            )
        body.append(self.checks())
        body.append(self.build())
        return head + "\n" + textwrap.indent("\n".join(body), "    ")

    def docstring(self) -> str:
        say = self.say
        summary = say(self.pick(self.rng.sample(DOC_SUMMARY, len(DOC_SUMMARY))))
        style = self.rng.choices(("short", "prose", "google", "numpy"), weights=(7, 3, 2, 0))[0]
        if style == "short":
            return f'"""{summary}"""'
        if style == "prose":
            return f'"""{summary}\n\n{say(RESULT_DOC)}\n"""'
        if style == "google":
            lines = ["Args:", f"    ticker: {say(TICKER_DOC)}", f"    {self.years}: {say(YEARS_DOC)}", "", "Returns:"]
            lines.append(f"    {say(RESULT_DOC)}")
            if self.rng.random() < 0.5:
                lines += ["", "Raises:", f"    {self.error}: {say(RAISES_DOC)}"]
        else:
            lines = ["Parameters", "----------", "ticker : str", f"    {say(TICKER_DOC)}", f"{self.years} : int"]
            lines += [f"    {say(YEARS_DOC)}", "", "Returns", "-------", "pd.DataFrame", f"    {say(RESULT_DOC)}"]
        return f'"""{summary}\n\n' + "\n".join(lines) + '\n"""'

    def fetch(self) -> str:
        data, years = self.data, self.years
        adjust = self.pick(("", ", auto_adjust=True", ", auto_adjust=False"))
        level = ", multi_level_index=False" if self.flatten == "argument" else ", progress=False"
        lines = []
        if self.style == "dates":
            end = self.pick(("end", "today", "end_date"))
            start = self.pick(("start", "begin", "start_date"))
            lines += [f"{end} = pd.Timestamp.today()", f"{start} = {end} - pd.DateOffset(years={years})"]
            call = f'yf.download(ticker, start={start}, end={end}, interval="1mo"{adjust}{level})'
        elif self.style == "download":
            call = f'yf.download(ticker, period=f"{{{years}}}y", interval="1mo"{adjust}{level})'
        else:
            call = f'yf.Ticker(ticker).history(period=f"{{{years}}}y", interval="1mo"{adjust})'
        statement = f"{data} = {call}"
        if self.rng.random() < 0.5:
            name = self.pick(("exc", "error", "err"))
            message = self.message("fetch")
            if self.rng.random() < 0.4:
                message = message[:-1] + f': {{{name}}}"'
            statement = (
                f"try:\n    {statement}\nexcept Exception as {name}:\n    raise RuntimeError({message}) from {name}"
            )
        return self.comment("fetch") + "\n".join([*lines, statement])

    def checks(self) -> str:
        data = self.data
        empty = f"{data}.empty" if self.rng.random() < 0.6 else f"{data} is None or {data}.empty"
        lines = [self.comment("check") + f"if {empty}:\n    raise {self.error}({self.message('empty')})"]
        if self.rng.random() < 0.25:
            kind = self.pick(("KeyError", self.error))
            lines.append(f'if "Close" not in {data}.columns:\n    raise {kind}({self.message("column")})')
        return "\n".join(lines)

    def build(self) -> str:
        data, out, rng = self.data, self.out, self.rng
        style = self.pick(("dict", "reset", "rename"))
        lines = []
        if style == "dict":
            close = self.pick(("close", "closes", "series"))
            lines.append(self.comment("clean") + f'{close} = {data}["Close"].dropna()')
            lines.append(
                self.comment("build") + f'{out} = pd.DataFrame({{"date": {close}.index, "close": {close}.to_numpy()}})'
            )
        elif style == "reset":
            lines.append(self.comment("build") + f'{out} = {data}[["Close"]].dropna().reset_index()')
            lines.append(f'{out}.columns = ["date", "close"]')
        else:
            lines.append(
                self.comment("clean") + f'{out} = {data}[["Close"]].rename(columns={{"Close": "close"}}).dropna()'
            )
            lines.append(f'{out} = {out}.rename_axis("date").reset_index()')
        if rng.random() < 0.12:
            lines.append(f"if len({out}) < 2:\n    raise {self.error}({self.message('short')})")
        change = f'{out}["close"].pct_change()'
        if rng.random() < 0.25:
            change = f'{out}["close"] / {out}["close"].shift(1) - 1'
        lines.append(self.comment("returns") + f'{out}["monthly_return"] = {change}')
        if rng.random() < 0.12:
            lines.append(f'{out}["date"] = pd.to_datetime({out}["date"])')
        columns = '[["date", "close", "monthly_return"]]'
        if self.drop_first:
            if rng.random() < 0.5:
                lines.append(self.comment("first") + f'{out} = {out}.dropna(subset=["monthly_return"])')
                lines.append(f"return {out}{columns}.reset_index(drop=True)")
            else:
                lines.append(self.comment("first") + f"return {out}{columns}.iloc[1:].reset_index(drop=True)")
        else:
            lines.append(f"return {out}{columns}")
        return "\n".join(lines)

    def plotter(self) -> str:
        self.plot_name = self.pick(("plot_returns", "save_chart", "plot_monthly_returns", "draw_chart"))
        argument = self.pick(("df", "frame", "returns", "data"))
        path = self.pick(("path", "filename", "output"))
        default = "CHART" if self.constants else f'"{self.chart()}"'
        doc = self.say(COMMENT["plot"]) + "."
        body = [f'"""{doc}"""', *self.bars(argument, path)]
        return f"def {self.plot_name}({argument}: pd.DataFrame, {path}: str = {default}) -> None:\n" + textwrap.indent(
            "\n".join(body), "    "
        )

    def bars(self, frame: str, target: str) -> list[str]:
        rng = self.rng
        up, down = self.pick(
            (("green", "red"), ("seagreen", "crimson"), ("steelblue", "tomato"), ("tab:green", "tab:red"))
        )
        width, height = self.pick(("12", "10", "11", "14")), self.pick(("5", "4", "6"))
        lines = []
        colors = self.pick(("colors", "bar_colors"))
        value = self.pick(("r", "x", "value"))
        coloured = rng.random() < 0.7
        if coloured:
            lines.append(f'{colors} = ["{up}" if {value} >= 0 else "{down}" for {value} in {frame}["monthly_return"]]')
        extra = f", color={colors}" if coloured else f', color="{up}"'
        title = self.say(TITLES)
        if rng.random() < 0.5:
            lines.append(f"fig, ax = plt.subplots(figsize=({width}, {height}))")
            lines.append(f'ax.bar({frame}["date"], {frame}["monthly_return"], width=20{extra})')
            lines.append(f'ax.set_title("{title}")')
            if rng.random() < 0.2:
                lines.append(f'ax.set_ylabel("{self.pick(("Return", "Monthly return", "Change"))}")')
            lines += self.tail("fig.tight_layout()", f"fig.savefig({target})")
        else:
            lines.append(f"plt.figure(figsize=({width}, {height}))")
            lines.append(f'plt.bar({frame}["date"], {frame}["monthly_return"], width=20{extra})')
            lines.append(f'plt.title("{title}")')
            if rng.random() < 0.2:
                lines.append(f'plt.ylabel("{self.pick(("Return", "Monthly return", "Change"))}")')
            lines += self.tail("plt.tight_layout()", f"plt.savefig({target})")
        return lines

    def tail(self, tight: str, save: str) -> list[str]:
        lines = [tight] if self.rng.random() < 0.4 else []
        lines.append(save)
        if self.rng.random() < 0.25:
            lines.append("plt.close()")
        return lines

    def example(self) -> str:
        name, rng = self.main, self.rng
        lines = [f"{name} = {self.function}()"]
        label = self.say("{Rows|Months|Observations|Number of @rows|Shape|Total @rows}")
        show = [f"print({name}.head())", f'print(f"{label}: {{len({name})}}")']
        if rng.random() < 0.1:
            show.append(f"print({name}.tail())")
        if rng.random() < 0.2:
            show.append(
                f'print(f"{self.say("{Average|Mean} {return|monthly return}")}: {{{name}["monthly_return"].mean():.2%}}")'.replace(
                    '"monthly_return"', "'monthly_return'"
                )
            )
        if rng.random() < 0.3:
            rng.shuffle(show)
        lines += show
        if self.plot == "function":
            lines.append(f"{self.plot_name}({name})")
        else:
            target = "CHART" if self.constants else f'"{self.chart()}"'
            plot = self.bars(name, target)
            lines += [self.comment("plot") + plot[0], *plot[1:]]
        body = textwrap.indent("\n".join(lines), "    ")
        return self.comment("example") + f'if __name__ == "__main__":\n{body}'

    # --- words -----------------------------------------------------------------------------------------------------

    def pick(self, options):
        return self.grammar.pick(options, self.rng)

    def say(self, template: str) -> str:
        return sentence_case(self.grammar.say(template, self.rng))

    def chart(self) -> str:
        return (
            self.pick(("nikkei_monthly_returns", "monthly_returns", "n225_returns", "returns", "nikkei_returns"))
            + ".png"
        )

    def comment(self, kind: str) -> str:
        """A comment line, or nothing."""
        return f"# {self.say(COMMENT[kind])}\n" if self.rng.random() < 0.45 else ""

    def message(self, kind: str) -> str:
        """A string literal; with the ticker where the template names it."""
        template = ERRORS[kind].replace("{ticker}", "%TICKER%")
        text = self.say(template).replace("%TICKER%", "{ticker}")
        return f'f"{text}"' if "{ticker}" in text else f'"{text}"'
