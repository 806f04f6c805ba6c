// Answers, with CockroachDB's own parser, what it makes of statements.
//
// Reads one JSON string a line, a text of SQL, and writes one JSON object a line. Nothing is executed and no database is
// asked: the parser, the types and the readers of constants are CockroachDB's; functions and tables are unknown here.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"sort"
	"time"

	"github.com/cockroachdb/cockroachdb-parser/pkg/sql/parser"
	"github.com/cockroachdb/cockroachdb-parser/pkg/sql/sem/tree"
	"github.com/cockroachdb/cockroachdb-parser/pkg/sql/types"
)

const longestLine = 64 << 20

type answer struct {
	Error      string       `json:"error"`
	Statements []*statement `json:"statements"`
}

type statement struct {
	Tag       string            `json:"tag"`
	SQL       string            `json:"sql"`       // constants hidden
	Functions []string          `json:"functions"` // what is called, sorted
	Operators []string          `json:"operators"`
	Types     []string          `json:"types"`   // of casts
	Columns   map[string]string `json:"columns"` // of CREATE TABLE, as information_schema shows them
	Constants []constant        `json:"constants"`
	seen      map[string]map[string]bool
}

// A text that is cast to a type, as CockroachDB reads it.
type constant struct {
	Type     string    `json:"type"`
	Elements []*string `json:"elements"` // of an array, null for NULL; else the one value
	Error    string    `json:"error"`
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, longestLine)
	out := bufio.NewWriter(os.Stdout)
	answers := json.NewEncoder(out)
	for lines.Scan() {
		var sql string
		if err := json.Unmarshal(lines.Bytes(), &sql); err != nil {
			fail(err)
		}
		if err := answers.Encode(parse(sql)); err != nil {
			fail(err)
		}
	}
	if err := lines.Err(); err != nil {
		fail(err)
	}
	if err := out.Flush(); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// The parser panics where it needs parts of the database that it comes without, such as PL/pgSQL.
func parse(sql string) (result answer) {
	result.Statements = []*statement{}
	defer func() {
		if problem := recover(); problem != nil {
			result = answer{Error: fmt.Sprint(problem), Statements: []*statement{}}
		}
	}()
	parsed, err := parser.Parse(sql)
	if err != nil {
		result.Error = err.Error()
		return result
	}
	for _, each := range parsed {
		result.Statements = append(result.Statements, describe(each.AST))
	}
	return result
}

func describe(ast tree.Statement) *statement {
	found := &statement{
		Tag:       ast.StatementTag(),
		SQL:       tree.AsStringWithFlags(ast, tree.FmtHideConstants),
		Columns:   map[string]string{},
		Constants: []constant{},
		seen:      map[string]map[string]bool{"function": {}, "operator": {}, "type": {}},
	}
	found.walk(reflect.ValueOf(ast))
	found.Functions = sorted(found.seen["function"])
	found.Operators = sorted(found.seen["operator"])
	found.Types = sorted(found.seen["type"])
	return found
}

func sorted(names map[string]bool) []string {
	list := make([]string, 0, len(names))
	for name := range names {
		list = append(list, name)
	}
	sort.Strings(list)
	return list
}

// Go through every exported field: unlike the tree's own visitors, this forgets no clause.
func (s *statement) walk(value reflect.Value) {
	switch value.Kind() {
	case reflect.Pointer, reflect.Interface:
		if value.IsNil() {
			return
		}
		if value.Kind() == reflect.Pointer && value.CanInterface() {
			if _, isType := value.Interface().(*types.T); isType {
				return
			}
			s.note(value.Interface())
		}
		s.walk(value.Elem())
	case reflect.Slice, reflect.Array:
		for i := 0; i < value.Len(); i++ {
			s.walk(value.Index(i))
		}
	case reflect.Struct:
		for i := 0; i < value.NumField(); i++ {
			if value.Type().Field(i).IsExported() {
				s.walk(value.Field(i))
			}
		}
	}
}

func (s *statement) note(node any) {
	switch node := node.(type) {
	case *tree.FuncExpr:
		s.seen["function"][node.Func.String()] = true
	case *tree.ComparisonExpr:
		s.seen["operator"][node.Operator.String()] = true
	case *tree.BinaryExpr:
		s.seen["operator"][node.Operator.String()] = true
	case *tree.CastExpr:
		if kind, ok := node.Type.(*types.T); ok {
			s.seen["type"][kind.SQLString()] = true
			s.read(node.Expr, kind)
		}
	case *tree.ColumnTableDef:
		if kind, ok := node.Type.(*types.T); ok {
			shown := kind.InformationSchemaName()
			if node.Nullable.Nullability == tree.NotNull || node.PrimaryKey.IsPrimaryKey {
				shown += " NOT NULL"
			}
			s.Columns[string(node.Name)] = shown
		}
	}
}

// Do with a cast text what the database does with it before it runs the statement.
func (s *statement) read(expression tree.Expr, kind *types.T) {
	text, ok := expression.(*tree.StrVal)
	if !ok {
		return
	}
	read := constant{Type: kind.SQLString(), Elements: []*string{}}
	datum, _, err := tree.ParseAndRequireString(kind, text.RawString(), tree.NewParseContext(time.Unix(0, 0).UTC()))
	if err != nil {
		read.Error = err.Error()
	} else if array, ok := datum.(*tree.DArray); ok {
		for _, element := range array.Array {
			read.Elements = append(read.Elements, bare(element))
		}
	} else {
		read.Elements = append(read.Elements, bare(datum))
	}
	s.Constants = append(s.Constants, read)
}

func bare(datum tree.Datum) *string {
	if datum == tree.DNull {
		return nil
	}
	text := tree.AsStringWithFlags(datum, tree.FmtExport)
	return &text
}
